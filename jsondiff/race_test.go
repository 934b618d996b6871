//go:build race

package jsondiff

const raceEnabled = true
