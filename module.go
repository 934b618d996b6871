// Package pollsse is a Caddy v2 HTTP handler that polls an upstream JSON URL
// once and pushes only the changes to every browser as Server-Sent Events.
package pollsse

import (
	_ "github.com/caddyserver/caddy/v2"
	_ "go.uber.org/zap"
)
