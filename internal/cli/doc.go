// Package cli is the command multihost: it reads the command line, connects to
// Redis, and calls the packages that do the work. Each subcommand is a file.
package cli
