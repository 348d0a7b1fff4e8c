package catalog

// Usage says what a set of images takes, in bytes.
//
// A block belongs to the set alone (Unique) when only chunks that nothing but
// the set's images name lead to it: live points, points in the trash and
// removed points still in use count alike. So Unique is freed, once the garbage
// collection has run, when the points of the set are deleted and nothing else
// is. Blocks the set shares with others are Shared. Every block is counted
// once, however often the set has it; blocks of zeros are not counted.
type Usage struct {
	Logical     int64 `json:"logical"`     // sizes of the images
	Transferred int64 `json:"transferred"` // data the clients sent
	New         int64 `json:"new"`         // of it, what nobody had at the time

	Unique       int64 `json:"unique"`        // blocks × 64 KiB
	UniqueStored int64 `json:"unique_stored"` // what they take in packs, compressed
	Shared       int64 `json:"shared"`        // blocks × 64 KiB
	SharedStored int64 `json:"shared_stored"` // what they take in packs, compressed
	Stored       int64 `json:"stored"`        // UniqueStored + SharedStored
}

// Usage returns what points take together. A point in the trash counts; one
// that is not here fails with ErrNotFound.
func (c *Catalog) Usage(points ...string) (Usage, error) { return Usage{}, errUnfinished }

// VMUsage returns what all points of a VM take, those in the trash included.
func (c *Catalog) VMUsage(vm string) (Usage, error) { return Usage{}, errUnfinished }

// DiskUsage returns what all images of a disk take, those in the trash included.
func (c *Catalog) DiskUsage(vm, disk string) (Usage, error) { return Usage{}, errUnfinished }

// ChainUsage returns, by point id, what each image of a disk takes for itself,
// those in the trash included.
func (c *Catalog) ChainUsage(vm, disk string) (map[string]Usage, error) { return nil, errUnfinished }

// StoreUsage returns what everything takes: all points, those in the trash and
// removed ones still in use included. Nothing is shared.
func (c *Catalog) StoreUsage() (Usage, error) { return Usage{}, errUnfinished }
