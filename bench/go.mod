module github.com/pollsse/caddy-poll-sse/bench

go 1.26.8

replace github.com/pollsse/caddy-poll-sse => ../

require golang.org/x/sys v0.48.0
