// Package client holds the built browser client for the server that serves it.
// Its sources and its tests are JavaScript, beside this file.
package client

import "embed"

// Files has the built modules (dist/*.js), each with its brotli form beside it
// (dist/*.js.br), and the TypeScript declarations (dist/*.d.ts).
//
//go:embed dist/*.js dist/*.br dist/*.ts
var Files embed.FS
