package dedup

import "bytes"

// zeroStep is compared at a time: small enough to stay in the first-level
// cache beside the data, large enough for the vector comparison to run wide.
const zeroStep = 4 << 10

var zeros [zeroStep]byte

// isZero reports whether p is all zero bytes.
func isZero(p []byte) bool {
	for len(p) > zeroStep {
		if !bytes.Equal(p[:zeroStep], zeros[:]) {
			return false
		}
		p = p[zeroStep:]
	}
	return bytes.Equal(p, zeros[:len(p)])
}
