package tier

import "testing"

func TestParseNameRefusesOtherSpellings(t *testing.T) {
	good := fileName(ID{Pack: 0xabc, Gen: 12}, packSuffix)
	if id, ok := parseName(good); !ok || id != (ID{Pack: 0xabc, Gen: 12}) {
		t.Fatalf("%s parses as %v, %v", good, id, ok)
	}
	for _, bad := range []string{
		"", "x", ".pack", "0000000abc.pack", "0000000ABC.g0.pack", "0000000abc.g00.pack", "0000000abc.g+1.pack",
		"abc.g0.pack", "0000000abc.g0.note", "0000000000.g0.pack", "10000000000.g0.pack",
		"0000000abc.g4294967296.pack", "0000000abc.g0.pack.tmp", "0000000abc.g-1.pack",
	} {
		if id, ok := parseName(bad); ok {
			t.Errorf("%q was taken for %v", bad, id)
		}
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("0000000abc.g12.pack")
	f.Add("0000000001.g0.pack")
	f.Add("10000000000.g0.pack")
	f.Fuzz(func(t *testing.T, name string) {
		if id, ok := parseName(name); ok && fileName(id, packSuffix) != name {
			t.Fatalf("%q means %v, which is written %q", name, id, fileName(id, packSuffix))
		}
	})
}
