package catalog

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestParseRef(t *testing.T) {
	id := testID(7)
	long := strings.Repeat("n", 128)
	good := map[string]Ref{
		"web1":                                 {VM: "web1"},
		"web1/vda":                             {VM: "web1", Disk: "vda"},
		"web1:vda":                             {VM: "web1", Disk: "vda"},
		"web1@latest":                          {VM: "web1", Point: "latest"},
		"web1/vda@latest~3":                    {VM: "web1", Disk: "vda", Point: "latest~3"},
		"web1:vda@" + id:                       {VM: "web1", Disk: "vda", Point: id},
		"web1@000000":                          {VM: "web1", Point: "000000"},
		"web1@2026-01-31T20:00:00Z":            {VM: "web1", Point: "2026-01-31T20:00:00Z"},
		"web1/vda@2026-01-31T20:00:00.5+02:00": {VM: "web1", Disk: "vda", Point: "2026-01-31T20:00:00.5+02:00"},
		id:                                     {Point: id},
		id + "@latest":                         {VM: id, Point: "latest"},
		long + "/" + long:                      {VM: long, Disk: long},
		"a.b-c_D/0":                            {VM: "a.b-c_D", Disk: "0"},
	}
	for s, want := range good {
		got, err := ParseRef(s)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", s, got, err, want)
		}
		if again, err := ParseRef(got.String()); err != nil || again != want {
			t.Errorf("%s is shown as %s, which is %+v, %v", s, got, again, err)
		}
	}
	for _, s := range []string{"", "@", "/", "web1/", ":vda", "/vda", "web1@", "web1/vda/x", "web1:vda:x", "web1/vda:x", "-web1",
		"web 1", long + "n", "web1@tomorrow", "web1@latest~", "web1@latest~-1", "web1@latest~x", "web1@latest~99999999999",
		"web1@latest~1000001", "web1@00000", "web1@" + id + "0", "web1@00000u", "web1@ABCDEF", "web1@2026-01-31", "web1@latest@latest",
		"web1@2026-13-31T20:00:00Z", "wéb", "web1\x00", "../x", "web1/.."} {
		if r, err := ParseRef(s); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "VM[/DISK][@POINT]") {
			t.Errorf("%q: %+v, %v; want ErrInvalid with the grammar", s, r, err)
		}
	}
}

// history of one VM: points 1 … 5, a second apart; vdb only in 2 and 4.
func resolvable(t *testing.T) *Catalog {
	c := mustOpen(t, testOptions(newFS()))
	t.Cleanup(func() { mustClose(t, c) })
	for i := 1; i <= 5; i++ {
		n := onePoint(i*100, "web1", ChunkRef{})
		if i%2 == 0 {
			im := n.Images[0]
			im.Disk = "vdb"
			n.Images = append(n.Images, im)
		}
		mustCommit(t, c, n)
	}
	other := onePoint(600, "web10", ChunkRef{})
	mustCommit(t, c, other)
	return c
}

func TestResolve(t *testing.T) {
	c := resolvable(t)
	at := func(i int) time.Time {
		p, err := c.Point(testID(i * 100))
		if err != nil {
			t.Fatal(err)
		}
		return p.Time
	}
	stamp := func(x time.Time) string { return x.Format(time.RFC3339Nano) }
	for _, x := range []struct {
		ref  string
		want int
	}{
		{"web1", 5}, {"web1@latest", 5}, {"web1@latest~0", 5}, {"web1@latest~4", 1},
		{"web1/vdb", 4}, {"web1/vdb@latest~1", 2}, {"web1:vda@latest~1", 4},
		{"web1@" + testID(300), 3}, {testID(300), 3}, {"web1/vdb@" + testID(200), 2},
		{"web1@" + testID(300)[:14], 3},
		{"web1@" + stamp(at(3)), 3}, {"web1/vdb@" + stamp(at(3)), 2}, {"web1@" + stamp(at(3).Add(-time.Millisecond)), 2},
		{"web1@" + stamp(at(3).Add(900*time.Millisecond)), 3},
		{"web1@" + at(3).Add(-time.Second).Format(time.RFC3339), 2},
		{"web1@" + at(3).In(time.FixedZone("", 7200)).Format(time.RFC3339), 3},
		{"web1@9999-01-01T00:00:00Z", 5}, {"web10", 6},
	} {
		r, err := ParseRef(x.ref)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := c.Resolve(r); err != nil || p.ID != testID(x.want*100) {
			t.Errorf("%s: %s, %v; want %s", x.ref, p.ID, err, testID(x.want*100))
		}
	}
}

func TestResolveErrors(t *testing.T) {
	c := resolvable(t)
	for _, x := range []struct {
		ref  Ref
		kind error
		says []string
	}{
		{Ref{VM: "web2"}, ErrNotFound, []string{"VM web2", "no point"}},
		{Ref{VM: "web1", Disk: "vdz"}, ErrNotFound, []string{"disk vdz", "5 points", "vda, vdb"}},
		{Ref{VM: "web1", Point: "latest~5"}, ErrNotFound, []string{"latest~5", "5 points", "newest " + testID(500)}},
		{Ref{VM: "web1", Disk: "vdb", Point: "latest~2"}, ErrNotFound, []string{"only 2 points"}},
		{Ref{VM: "web1", Point: testID(600)}, ErrNotFound, []string{testID(600), "5 points"}},
		{Ref{VM: "web1", Disk: "vdb", Point: testID(100)}, ErrNotFound, []string{"disk vdb", "the point has vda"}},
		{Ref{VM: "web1", Point: "000000"}, ErrInvalid, []string{"5 points of VM web1 begin with 000000"}},
		{Ref{VM: "web1", Point: "2020-01-01T00:00:00Z"}, ErrNotFound, []string{"before 2020-01-01T00:00:01Z", "5 points"}},
		{Ref{VM: "web1", Point: "1900-01-01T00:00:00Z"}, ErrNotFound, []string{"5 points"}},
		{Ref{Point: testID(999)}, ErrNotFound, []string{testID(999)}},
		{Ref{Point: "latest"}, ErrInvalid, []string{"VM[/DISK]"}},
		{Ref{VM: "web1", Point: "junk!"}, ErrInvalid, []string{"VM[/DISK]"}},
	} {
		p, err := c.Resolve(x.ref)
		if !errors.Is(err, x.kind) {
			t.Errorf("%v: %s, %v; want %v", x.ref, p.ID, err, x.kind)
			continue
		}
		for _, s := range x.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%v: %q does not say %q", x.ref, err, s)
			}
		}
	}
}

// TestVMNamedLikeAnID: a bare id is a point; the VM is had with @latest.
func TestVMNamedLikeAnID(t *testing.T) {
	c := resolvable(t)
	mustCommit(t, c, onePoint(700, testID(300), ChunkRef{}))
	mustCommit(t, c, onePoint(701, testID(301), ChunkRef{}))
	for ref, want := range map[string]int{testID(300): 300, testID(300) + "@latest": 700} {
		r, _ := ParseRef(ref)
		if p, err := c.Resolve(r); err != nil || p.ID != testID(want) {
			t.Errorf("%s: %s, %v; want %s", ref, p.ID, err, testID(want))
		}
	}
	_, err := c.Resolve(Ref{Point: testID(301)})
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "@latest") {
		t.Errorf("an id that only a VM has: %v", err)
	}
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"web1", "web1/vda@latest~2", "a:b@2026-01-31T20:00:00.123+01:00", testID(1), "x@000000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRef(s)
		if err != nil {
			return
		}
		if again, err := ParseRef(r.String()); err != nil || again != r {
			t.Fatalf("%q is %+v, shown as %q, which is %+v, %v", s, r, r, again, err)
		}
		if _, err := parseSelector(r.Point); err != nil && r.VM != "" {
			t.Fatalf("%q: %v", s, err)
		}
	})
}
