// Package vma reads and writes VMA archives, version 1: all disks of a VM and
// its configuration in one stream.
package vma
