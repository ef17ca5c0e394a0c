//go:build !unix

package cli

func ignoreBackgroundRead() {}
