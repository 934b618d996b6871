//go:build race

package system_test

func init() { raced = true }
