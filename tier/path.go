package tier

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	packSuffix = ".pack"
	noteSuffix = ".note"
)

// group is the directory of a pack: 4096 packs share one, so that no directory
// grows beyond what every file system lists quickly.
func group(id ID) string { return fmt.Sprintf("%07x", id.Pack>>12) }

func fileName(id ID, suffix string) string {
	return fmt.Sprintf("%010x.g%d%s", id.Pack, id.Gen, suffix)
}

// parseName is the inverse of fileName with packSuffix. Only the canonical
// spelling is accepted, so that two names never mean one pack.
func parseName(name string) (ID, bool) {
	base, ok := strings.CutSuffix(name, packSuffix)
	num, gen, found := strings.Cut(base, ".g")
	if !ok || !found {
		return ID{}, false
	}
	pack, err := strconv.ParseUint(num, 16, 64)
	if err != nil || pack == 0 || pack > MaxPack {
		return ID{}, false
	}
	g, err := strconv.ParseUint(gen, 10, 32)
	if err != nil {
		return ID{}, false
	}
	id := ID{Pack: pack, Gen: uint32(g)}
	return id, fileName(id, packSuffix) == name
}
