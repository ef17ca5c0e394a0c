// Package recipes holds the code of docs/recipes.md. It is there to be copied.
package recipes
