// Package layering holds the test that fails when an import goes up the layers
// of docs/ARCHITECTURE.md. There is nothing to import here.
package layering
