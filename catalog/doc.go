// Package catalog remembers VMs, recovery points, images and chunk records.
package catalog
