// Command caddy is Caddy with its standard modules and poll_sse: what
// xcaddy would build, for go run, the tests and images.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/pollsse/caddy-poll-sse"
)

func main() { caddycmd.Main() }
