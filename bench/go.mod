module github.com/pollsse/caddy-poll-sse/bench

go 1.26.8

replace github.com/pollsse/caddy-poll-sse => ../

require (
	github.com/evanphx/json-patch/v5 v5.9.11
	github.com/goccy/go-json v0.12.0
	github.com/mattbaird/jsonpatch v0.0.0-20240118010651-0ba75a80ca38
	github.com/pollsse/caddy-poll-sse v0.0.0
	github.com/wI2L/jsondiff v0.7.1
	gomodules.xyz/jsonpatch/v2 v2.5.0
)

require (
	github.com/davecgh/go-spew v1.1.1 // indirect
	github.com/stretchr/testify v1.12.1 // indirect
	github.com/tidwall/gjson v1.18.0 // indirect
	github.com/tidwall/match v1.1.1 // indirect
	github.com/tidwall/pretty v1.2.1 // indirect
	github.com/tidwall/sjson v1.2.5 // indirect
	golang.org/x/text v0.42.0 // indirect
)

require (
	golang.org/x/net v0.60.0
	golang.org/x/sys v0.48.0
)
