package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/strongroom-backup/strongroom/internal/inplace"
	"github.com/strongroom-backup/strongroom/internal/testdisk"
	"github.com/strongroom-backup/strongroom/server/api"
)

// backedUp is a VM of two disks with a full backup and an incremental.
type backedUp struct {
	*scene
	guests []*guest
	points []string
	want   [][]string // the disks at each point, as raw files
}

func newBackedUp(t *testing.T) *backedUp {
	t.Helper()
	t.Parallel()
	s := newScene(t)
	small := s.diskOf("vdb.model", 5<<20+512, extent{1 << 20, 2 << 20}, extent{5 << 20, 512})
	b := &backedUp{scene: s, guests: []*guest{newGuest(s, "vda", "qcow2"), newGuestOf(s, "vdb", "qcow2", small)}}
	b.keep(s.full("vm", "b0", b.guests...))
	b.use(1)
	open := s.start("vm", b.guests, "--mode", "incremental", "--blob", "domain.xml="+base.Files[0])
	s.connect(open)
	s.must(s.qsd.Grouped(s.ctx, b.guests[0].copyDirty("b0"), b.guests[1].copyDirty("b0")), s.qsd.Wait(s.ctx, jobs(b.guests)...))
	s.disconnect(open)
	b.keep(s.commit(open))
	return b
}

// use changes both disks.
func (b *backedUp) use(round int) {
	b.Helper()
	b.guests[0].edit(round, 40)
	b.guests[1].write(int64(round)<<20+512, noise(uint64(round), 200<<10))
	b.guests[1].zero(2<<20, 100<<10)
}

func (b *backedUp) keep(r api.Receipt) {
	b.Helper()
	b.points = append(b.points, r.Point)
	b.want = append(b.want, []string{b.guests[0].snapshot(r.Point), b.guests[1].snapshot(r.Point)})
}

// strongroom runs a command that must succeed.
func (s *scene) strongroom(args ...string) string {
	s.Helper()
	out, err := s.srv.Run(s.ctx, args...)
	s.must(err)
	return string(out)
}

// equals compares a file QEMU reads with a raw one.
func (s *scene) equals(format, file, raw string) {
	s.Helper()
	s.tool("qemu-img", "compare", "-q", "-f", format, "-F", "raw", file, raw)
}

// TestEveryFormOfARestore gives both points back in every form; each is judged
// by QEMU and by the manifest beside it.
func TestEveryFormOfARestore(t *testing.T) {
	b := newBackedUp(t)
	for i, point := range b.points {
		dir := b.path("restored-" + point)
		b.must(os.Mkdir(dir, 0o700))
		at := func(name string) string { return filepath.Join(dir, name) }
		b.strongroom("restore", "vm@"+point, "--output", at("all"), "--verify")
		b.strongroom("restore", "vm@"+point, "--output", at("all-qcow2"), "--format", "qcow2")
		for d, disk := range []string{"vda", "vdb"} {
			ref, want := "vm/"+disk+"@"+point, b.want[i][d]
			b.equals("raw", at("all/"+disk+".raw"), want)
			b.equals("qcow2", at("all-qcow2/"+disk+".qcow2"), want)
			b.strongroom("restore", ref, "--format", "qcow2", "--chain", at("chain-"+disk))
			chain, err := filepath.Glob(at("chain-" + disk + "/*.qcow2"))
			b.must(err)
			if len(chain) != i+1 {
				t.Fatalf("the chain of %s is %v", ref, chain)
			}
			b.equals("qcow2", chain[i], want)
			b.strongroom("verify", "--restored", at("chain-"+disk))
			for _, format := range []string{"raw", "qcow2"} {
				b.piped(at("piped"), "restore", ref, "--format", format, "--output", "-")
				b.equals(format, at("piped"), want)
			}
		}
		b.strongroom("verify", "--restored", at("all"))
		b.strongroom("verify", "--restored", at("all-qcow2"))
		b.must(os.RemoveAll(dir))
	}
}

// piped runs a command with its output through a pipe into a file.
func (s *scene) piped(file string, args ...string) {
	s.Helper()
	script := `set -o pipefail; "$@" | cat > ` + file
	cmd := exec.CommandContext(s.ctx, "bash", append([]string{"-c", script, "-", binary}, args...)...)
	cmd.Env = append(os.Environ(), "STRONGROOM_API="+s.srv.APISocket())
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.Fatalf("%s: %v\n%s", args, err, out)
	}
}

// TestArchiveRoundTrip makes an archive of a point, from a pipe and as a file,
// and a VM of it again: nothing has changed and nothing is stored twice.
func TestArchiveRoundTrip(t *testing.T) {
	b := newBackedUp(t)
	b.strongroom("restore", "vm@"+b.points[1], "--format", "vma", "--output", b.path("vm.vma"), "--verify")
	b.strongroom("verify", "--restored", b.path("vm.vma.restore.json"))
	b.piped(b.path("piped.vma"), "restore", "vm@"+b.points[1], "--format", "vma", "--output", "-")
	for vm, file := range map[string]string{"again": "vm.vma", "piped": "piped.vma"} {
		var r api.Receipt
		b.must(b.srv.JSON(b.ctx, &r, "import", b.path(file), vm))
		for d, disk := range []string{"vda", "vdb"} {
			if i := image(b.scene, r, disk); i.NewBytes != 0 {
				t.Errorf("%s of an archive of what is here has %d new bytes", disk, i.NewBytes)
			}
			b.same(vm, disk, r.Point, b.want[1][d])
		}
		b.strongroom("restore", vm, "--output", b.path(vm))
		b.equals("raw", b.path(vm+"/vda.raw"), b.want[1][0])
		b.must(testdisk.Equal(base.Files[0], b.path(vm+"/domain.xml")))
	}
}

// TestImportRoundTrip takes a disk out as qcow2 and in again.
func TestImportRoundTrip(t *testing.T) {
	b := newBackedUp(t)
	b.strongroom("restore", "vm/vdb@"+b.points[1], "--format", "qcow2", "--output", b.path("out.qcow2"))
	b.strongroom("import", b.path("out.qcow2"), "other", "--disk", "vdb")
	b.same("other", "vdb", "latest", b.want[1][1])
}

// TestSetBackInPlace sets disks back to a point where they are: a file by
// comparing hashes, and a disk of QEMU by its own dirty bitmap and ours.
func TestSetBackInPlace(t *testing.T) {
	b := newBackedUp(t)
	file := b.path("in-place.raw")
	b.must(testdisk.Copy(b.want[1][0], file))
	r := b.inPlace("vm/vda@"+b.points[0], file, "--verify")
	b.must(testdisk.Equal(b.want[0][0], file))
	if changed := r.Written + r.Zeroed; changed == 0 || changed > r.Size/4 {
		t.Errorf("in a file %d of %d bytes were written: %+v", changed, r.Size, r)
	}

	b.use(2) // which no backup has seen
	unknown, _ := b.guests[0].dirty("b0")
	b.must(b.qsd.QMP.Execute(b.ctx, "block-export-add", map[string]any{
		"type": "nbd", "id": "marked", "node-name": "vda", "name": "marked", "writable": true, "bitmaps": []string{"b0"},
	}, nil))
	uri := b.qsd.DiskURI("marked")
	between := int64(len(b.since("vm/vda@"+b.points[0], b.points[1]))) * blockSize
	r = b.inPlace("vm/vda@"+b.points[0], uri, "--bitmap", "b0")
	b.equals("raw", uri, b.want[0][0])
	if !r.Mapped || r.Compared == 0 || r.Compared > unknown+between {
		t.Errorf("the guest changed %d bytes, the points differ in %d: %+v", unknown, between, r)
	}
}

func (s *scene) inPlace(ref, target string, flags ...string) (r inplace.Result) {
	s.Helper()
	s.must(s.srv.JSON(s.ctx, &r, append([]string{"restore", ref, "--in-place", target}, flags...)...))
	return r
}
