package offline

const (
	// pieceBlocks is what one read asks for: four frames of the store.
	pieceBlocks = 16
	// piecesAhead is how many pieces are read before the first is written.
	piecesAhead = 16
	// damageListed bounds the blocks a Report and a DamageError name; the rest
	// is counted.
	damageListed = 1000
	// namesListed bounds the disks and files an error names: a point may have
	// hundreds.
	namesListed = 20
)
