package vma

// Limits; those which are the format's own or Proxmox' refuse nothing that
// Proxmox would write.
const (
	headerMax  = 512 << 10 // Proxmox' buffer for it
	blobMax    = 1<<16 - 1 // the format's: a length of 16 bits
	configsMax = 256       // the format's
	deviceMax  = 254       // Proxmox': 0 means none, and 255 is reserved

	// nameMax bounds the names of devices and configuration files, with which
	// messages are made. Proxmox' own have about twenty bytes.
	nameMax = 255

	// clustersMax is the number of clusters of all devices together, what a number
	// of 32 bits can count in one: 256 TiB. It bounds the memory for knowing which
	// have come to 512 MiB, for which an archive must name at least one cluster of
	// every 256 MiB.
	clustersMax = 1 << 32

	// readSize is how much Write asks of a source at once, readsBytes how much it
	// has asked for or not yet written: enough to keep a server 10 ms away busy at
	// 3 GB/s.
	readSize   = 1 << 20
	readsBytes = 32 << 20
)
