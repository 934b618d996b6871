//go:build !race

package jsondiff

const raceEnabled = false
