package metrics

import "time"

// Figures are what is counted now and then, not at every scrape.
type Figures struct {
	Counted              time.Time // zero: not yet
	Held, Locked, Manual int       // points
	LongestChain         int       // images, over the chains of all disks' newest images
	Store                Usage
	VMs                  []VMFigures
	Disks                []DiskFigures
	Omitted              int // disks left out because there are too many
}

// Usage is what a VM or a disk takes, in bytes.
type Usage struct {
	Logical      int64 // sizes of all images
	UniqueStored int64 // of packs, of what nothing else has
	SharedStored int64
}

// VMFigures are of one VM.
type VMFigures struct {
	VM     string
	Points int
	Usage  Usage
}

// DiskFigures are of one disk.
type DiskFigures struct {
	VM, Disk string
	Chain    int // images that the newest one hangs on, and itself
	Usage    Usage
}

var (
	figuresTime = gauge("figures_timestamp_seconds", "When the figures per VM and disk, of protection and of chains were counted; every few minutes.")
	protected   = gauge("points_protected", "Recovery points that are held, locked or manual; one can be all of it.", "by")
	longest     = gauge("chain_longest_images", "Images in the longest chain that ends in the newest image of a disk.")
	usedBytes   = gauge("used_bytes", "Bytes of packs that points need, those in the trash included; the rest of the packs is reclaimable or theirs who have not committed.")

	vmPoints  = gauge("vm_points", "Recovery points of a VM.", "vm")
	vmLogical = gauge("vm_logical_bytes", "Sizes of all images of a VM.", "vm")
	vmStored  = gauge("vm_stored_bytes", "Bytes of packs that a VM's points need: unique (freed if all of them were deleted) and shared with other VMs.", "vm", "kind")

	diskLogical = gauge("disk_logical_bytes", "Sizes of all images of a disk.", "vm", "disk")
	diskStored  = gauge("disk_stored_bytes", "Bytes of packs that a disk's images need: unique (freed if all of them were deleted) and shared with other disks.", "vm", "disk", "kind")
	diskChain   = gauge("disk_chain_images", "Images in the chain that ends in the newest image of a disk.", "vm", "disk")
	omitted     = gauge("disks_omitted", "Disks left out of the figures per VM and disk because there are too many.")
)

func collectFigures(to sink, f Figures) {
	if f.Counted.IsZero() {
		return
	}
	put(to, figuresTime, float64(f.Counted.UnixMilli())/1000)
	put(to, protected, f.Held, "hold")
	put(to, protected, f.Locked, "lock")
	put(to, protected, f.Manual, "manual")
	put(to, longest, f.LongestChain)
	put(to, usedBytes, f.Store.UniqueStored+f.Store.SharedStored)
	put(to, omitted, f.Omitted)
	for _, v := range f.VMs {
		put(to, vmPoints, v.Points, v.VM)
		put(to, vmLogical, v.Usage.Logical, v.VM)
		put(to, vmStored, v.Usage.UniqueStored, v.VM, "unique")
		put(to, vmStored, v.Usage.SharedStored, v.VM, "shared")
	}
	for _, d := range f.Disks {
		put(to, diskLogical, d.Usage.Logical, d.VM, d.Disk)
		put(to, diskStored, d.Usage.UniqueStored, d.VM, d.Disk, "unique")
		put(to, diskStored, d.Usage.SharedStored, d.VM, d.Disk, "shared")
		put(to, diskChain, d.Chain, d.VM, d.Disk)
	}
}
