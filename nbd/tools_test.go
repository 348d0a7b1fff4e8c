package nbd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
	"github.com/strongroom-backup/strongroom/nbd"
	"github.com/strongroom-backup/strongroom/nbd/nbdtest"
)

// Stock clients against the server. A missing tool is a failure: what has not
// been tried does not work.

// tool runs a program and returns what it printed.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := tryTool(name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

func tryTool(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	// The distribution's Python comes first: it has libnbd.
	cmd.Env = append(os.Environ(), "PATH=/usr/bin:/bin:"+os.Getenv("PATH"))
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// nbdsh runs a libnbd script with a handle h.
func nbdsh(t testing.TB, script string) string {
	t.Helper()
	return tool(t, "/usr/bin/nbdsh", "-c", script)
}

// source writes a raw image with data, holes and an odd place or two.
func source(t testing.TB) string {
	t.Helper()
	b := make([]byte, diskSize)
	copy(b, pattern(mib+777, 1))
	copy(b[3*mib:], pattern(65536, 2))
	copy(b[6*mib+4096:], pattern(512, 3))
	copy(b[diskSize-1000:], pattern(1000, 4))
	name := filepath.Join(t.TempDir(), "src.raw")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func sameAs(t testing.TB, w *world, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, w.disk.Bytes()) {
		t.Error("the disk differs from the source")
	}
}

func TestToolNbdinfo(t *testing.T) {
	w := newWorld(t, nil)
	w.simple("e").must(cmdWrite, 0, 65536, 65536, pattern(65536, 1))
	out := tool(t, "nbdinfo", "--list", "--json", w.uri("e"))
	var list struct {
		Exports []struct {
			Name        string   `json:"export-name"`
			Description string   `json:"description"`
			Contexts    []string `json:"contexts"`
			Size        int64    `json:"export-size"`
			ReadOnly    bool     `json:"is_read_only"`
			Multi       bool     `json:"can_multi_conn"`
			Preferred   int      `json:"block_size_preferred"`
		}
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Exports) != 2 || list.Exports[0].Description != "a disk" || list.Exports[1].Name != "ro" {
		t.Fatalf("list: %+v", list)
	}
	for _, e := range list.Exports {
		if e.Size != diskSize || !e.Multi || e.Preferred != 65536 || e.ReadOnly != (e.Name == "ro") ||
			fmt.Sprint(e.Contexts) != "[base:allocation]" {
			t.Errorf("%+v", e)
		}
	}
	if got := strings.TrimSpace(tool(t, "nbdinfo", "--size", w.uri("e"))); got != fmt.Sprint(diskSize) {
		t.Errorf("size %s", got)
	}
	want := "0 65536 3 hole,zero 65536 65536 0 data 131072 8257536 3 hole,zero"
	if got := strings.Join(strings.Fields(tool(t, "nbdinfo", "--map", w.uri("e"))), " "); got != want {
		t.Errorf("map %s", got)
	}
	for _, can := range []string{"cache", "df", "fast-zero", "flush", "fua", "multi-conn", "trim", "zero", "connect", "read", "write"} {
		tool(t, "nbdinfo", "--can", can, w.uri("e"))
	}
	for _, cannot := range []string{"fast-zero", "trim", "zero", "write"} {
		if out, err := tryTool("nbdinfo", "--can", cannot, w.uri("ro")); err == nil {
			t.Errorf("read-only export can %s: %s", cannot, out)
		}
	}
	tool(t, "nbdinfo", "--is", "read-only", w.uri("ro"))
	if out, err := tryTool("nbdinfo", w.uri("nope")); err == nil || !strings.Contains(out, "No such file") {
		t.Errorf("unknown export: %v %s", err, out)
	}
}

// The shape of a big map: more extents than one reply of some servers holds.
func TestToolNbdinfoManyExtents(t *testing.T) {
	w := newWorld(t, nil)
	comb := nbdtest.NewDisk(1 << 30)
	dev := comb.Open()
	defer dev.Close()
	for i := int64(0); i < 1<<30; i += 2 * 65536 {
		if _, err := dev.WriteAt([]byte{1}, i); err != nil {
			t.Fatal(err)
		}
	}
	w.exports.Add(&nbdtest.Export{Info: nbd.Info{Name: "comb"}, Disk: comb})
	out := tool(t, "nbdinfo", "--map", w.uri("comb"))
	if n := strings.Count(out, "\n"); n != 16384 {
		t.Errorf("%d extents, want 16384", n)
	}
}

func TestToolNbdcopy(t *testing.T) {
	for _, flags := range [][]string{{"--flush"}, {}, {"--flush", "--request-size=1048576", "--connections=1"}, {"--flush", "--destination-is-zero"}} {
		w := newWorld(t, nil)
		src := source(t)
		tool(t, "nbdcopy", append(flags, src, w.uri("e"))...)
		sameAs(t, w, src)
		if got := w.disk.Flushes.Load() > 0; got != (len(flags) > 0) {
			t.Errorf("%v: flushed: %v", flags, got)
		}
		dst := filepath.Join(t.TempDir(), "dst.raw")
		tool(t, "nbdcopy", w.uri("e"), dst)
		tool(t, "cmp", src, dst)
		if err := os.Remove(dst); err != nil {
			t.Fatal(err)
		}
		tool(t, "nbdcopy", "--no-extents", w.uri("ro"), dst)
		tool(t, "cmp", src, dst)
	}
}

// A read that fails in the middle makes nbdcopy fail, not write zeroes.
func TestToolNbdcopySeesErrors(t *testing.T) {
	w := newWorld(t, nil)
	src := source(t)
	tool(t, "nbdcopy", src, w.uri("e"))
	w.disk.Intercept(func(op string, off, n int64) error {
		if op == "read" && off <= 3*mib && off+n > 3*mib {
			return fmt.Errorf("damaged")
		}
		return nil
	})
	if out, err := tryTool("nbdcopy", w.uri("e"), filepath.Join(t.TempDir(), "dst")); err == nil {
		t.Errorf("nbdcopy succeeded: %s", out)
	}
}

func TestToolQemuImg(t *testing.T) {
	w := newWorld(t, nil)
	src := source(t)
	tool(t, "qemu-img", "convert", "-n", "-W", "-m", "16", "-f", "raw", "-O", "raw", src, w.uri("e"))
	sameAs(t, w, src)
	if w.disk.Flushes.Load() == 0 {
		t.Error("qemu-img did not flush")
	}
	tool(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", src, w.uri("e"))
	dst := filepath.Join(t.TempDir(), "dst.qcow2")
	tool(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-W", "-m", "16", w.uri("ro"), dst)
	tool(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", src, dst)
	var m []struct {
		Start, Length int64
		Zero          bool
	}
	if err := json.Unmarshal([]byte(tool(t, "qemu-img", "map", "--output=json", "-f", "raw", w.uri("e"))), &m); err != nil {
		t.Fatal(err)
	}
	if len(m) != 7 || m[1].Start != 17*65536 || !m[1].Zero || m[0].Zero {
		t.Errorf("map %+v", m)
	}
	if out := tool(t, "qemu-nbd", "--list", "-k", w.unix); !strings.Contains(out, "exports available: 2") {
		t.Errorf("qemu-nbd --list: %s", out)
	}
}

func TestToolQemuIO(t *testing.T) {
	w := newWorld(t, nil)
	out := tool(t, "qemu-io", "-f", "raw", "-t", "none", w.uri("e"),
		"-c", "write -P 0xaa 0 1M", "-c", "write -P 0xbb -f 1000448 512", "-c", "write -z 64k 64k",
		"-c", "write -z -u 256k 64k", "-c", "discard 512k 64k", "-c", "flush",
		"-c", "read -P 0xaa 0 64k", "-c", "read -P 0 64k 64k", "-c", "read -P 0xbb 1000448 512",
		"-c", "aio_write -P 0xcc 2M 1M", "-c", "aio_write -P 0xdd 3M 1M", "-c", "aio_flush", "-c", "read -P 0xdd 3M 1M",
		"-c", "read -P 0 512k 64k", "-c", "map")
	for _, bad := range []string{"failed", "error", "Pattern verification"} {
		if strings.Contains(out, bad) {
			t.Errorf("qemu-io: %s", out)
		}
	}
	if out, err := tryTool("qemu-io", "-f", "raw", w.uri("ro"), "-c", "write 0 512"); err == nil {
		t.Errorf("wrote to a read-only export: %s", out)
	}
}

func TestToolFio(t *testing.T) {
	w := newWorld(t, nil)
	t.Chdir(t.TempDir()) // fio leaves a state file
	for _, args := range [][]string{
		{"--rw=randwrite", "--bsrange=4k-256k", "--iodepth=16"},
		{"--rw=randrw", "--bsrange=512-64k", "--bs_unaligned", "--iodepth=64", "--fsync=10"},
	} {
		tool(t, "fio", append([]string{
			"--name=v", "--ioengine=nbd", "--uri=" + w.uri("e"), "--size=8m",
			"--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--randseed=4711",
		}, args...)...)
	}
}

func TestToolNbdkitAsClient(t *testing.T) {
	w := newWorld(t, nil)
	src := source(t)
	front := filepath.Join(t.TempDir(), "front")
	cmd := exec.Command("nbdkit", "-f", "-U", front, "--filter=log", "nbd", "uri="+w.uri("e"), "logfile="+filepath.Join(t.TempDir(), "log"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() }()
	eventually(t, "nbdkit listens", func() bool { _, err := os.Stat(front); return err == nil })
	uri := "nbd+unix:///?socket=" + front
	tool(t, "nbdcopy", "--flush", src, uri)
	sameAs(t, w, src)
	tool(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", src, uri)
	if out := tool(t, "nbdinfo", uri); !strings.Contains(out, "export-size: 8388608") {
		t.Errorf("nbdinfo through nbdkit: %s", out)
	}
}

// A client that breaks every rule it can, once against us and once against
// nbdkit: both must live through it, and the data must not change.
func TestToolStrictModeOff(t *testing.T) {
	w := newWorld(t, nil)
	sock := filepath.Join(t.TempDir(), "k")
	cmd := exec.Command("nbdkit", "-f", "-U", sock, "memory", fmt.Sprint(diskSize))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() }()
	eventually(t, "nbdkit listens", func() bool { _, err := os.Stat(sock); return err == nil })
	script := `
h.set_strict_mode(0)
h.add_meta_context("base:allocation")
h.connect_uri("%s")
size = h.get_size()
def attempt(what, f):
    try:
        f()
        print(what, "ok")
    except nbd.Error as e:
        print(what, e.errno)
h.pwrite(b"\xa5" * 512, 0)
attempt("read past", lambda: h.pread(512, size))
attempt("read across", lambda: h.pread(512, size - 1))
attempt("write past", lambda: h.pwrite(b"x" * 512, size))
attempt("write across", lambda: h.pwrite(b"x" * 512, size - 1))
attempt("zero past", lambda: h.zero(512, size))
attempt("trim past", lambda: h.trim(512, size))
attempt("cache past", lambda: h.cache(512, size))
attempt("status past", lambda: h.block_status(512, size, lambda *a: 0))
attempt("read 2^63", lambda: h.pread(512, 1 << 63))
attempt("write wrap", lambda: h.pwrite(b"x" * 512, (1 << 64) - 1))
attempt("zero wrap", lambda: h.zero(0xffffffff, (1 << 64) - 1))
attempt("df on write", lambda: h.pwrite(b"x" * 512, 0, nbd.CMD_FLAG_DF))
attempt("unknown flag on write", lambda: h.pwrite(b"x" * 512, 0, 0x8000))
attempt("unknown flag on read", lambda: h.pread(512, 0, 0x4000))
attempt("no hole on read", lambda: h.pread(512, 0, nbd.CMD_FLAG_NO_HOLE))
attempt("fua on read", lambda: h.pread(512, 0, nbd.CMD_FLAG_FUA))
attempt("req one on trim", lambda: h.trim(512, 4096, nbd.CMD_FLAG_REQ_ONE))
h.pwrite(b"y" * 512, size - 512, nbd.CMD_FLAG_FUA)
assert h.pread(512, 0) == b"\xa5" * 512
assert h.pread(512, size - 512) == b"y" * 512
h.zero(512, size - 512, nbd.CMD_FLAG_FAST_ZERO)
h.shutdown()
`
	ours := nbdsh(t, fmt.Sprintf(script, w.uri("e")))
	theirs := nbdsh(t, fmt.Sprintf(script, "nbd+unix:///?socket="+sock))
	if ours != theirs {
		t.Errorf("answers differ:\nours\n%s\nnbdkit\n%s", ours, theirs)
	}
}

func TestToolNbdsh(t *testing.T) {
	w := newWorld(t, nil)
	nbdsh(t, fmt.Sprintf(`
h.add_meta_context("base:allocation")
h.connect_uri("%s")
assert h.get_size() == 8388608
assert h.get_block_size(nbd.SIZE_PREFERRED) == 65536
# 64 commands under way, out of order
bufs = [nbd.Buffer.from_bytearray(bytearray([i]) * 65536) for i in range(64)]
cookies = [h.aio_pwrite(bufs[i], (63 - i) * 65536) for i in range(64)]
while cookies:
    cookies = [c for c in cookies if not h.aio_command_completed(c)]
    if cookies: h.poll(-1)
for i in range(64):
    assert h.pread((1 << 16), (63 - i) * 65536) == bytes([i]) * 65536
# A read in pieces: data, a hole, data.
h.zero(65536, 65536)
seen = []
def chunk(buf, offset, status, err):
    seen.append((offset, len(buf), status))
h.pread_structured(3 * 65536, 0, chunk)
assert [s for _, _, s in seen] == [nbd.READ_DATA, nbd.READ_HOLE, nbd.READ_DATA], seen
ext = []
h.block_status(4 * 65536, 0, lambda ctx, off, e, err: ext.append(list(e)))
assert ext == [[65536, 0, 65536, 3, 131072, 0]], ext
h.flush()
h.shutdown()
`, w.uri("e")))
}

// The oldest way in, with Python's sockets: exactly 10 bytes after EXPORT_NAME
// when NO_ZEROES was agreed, 134 without.
func TestToolNaivePythonClient(t *testing.T) {
	w := newWorld(t, nil)
	for flags, n := range map[int]int{3: 10, 1: 134} {
		tool(t, "/usr/bin/python3", "-c", fmt.Sprintf(`
import socket, struct
s = socket.socket(socket.AF_UNIX); s.connect(%q)
def recv(n):
    b = b""
    while len(b) < n:
        k = s.recv(n - len(b)); assert k; b += k
    return b
assert recv(18) == b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3)
s.sendall(struct.pack(">I", %d) + b"IHAVEOPT" + struct.pack(">II", 1, 1) + b"e")
size, flags = struct.unpack(">QH", recv(%d)[:10])
assert size == 8388608 and flags & 1, (size, flags)
s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 1, 42, 4096, 4) + b"data")
assert struct.unpack(">IIQ", recv(16)) == (0x67446698, 0, 42)
s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 43, 4096, 4))
assert struct.unpack(">IIQ", recv(16)) == (0x67446698, 0, 43) and recv(4) == b"data"
s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 2, 44, 0, 0))
assert s.recv(1) == b""
`, w.unix, flags, n))
	}
}

// The dialect of go-nbd's client: no client flags at all, reflective encoding,
// one REP_SERVER read from LIST, then ABORT. (Its Connect sends GO with a
// length of 0 before the data and so can talk to no server that believes
// lengths, its own excepted.)
func TestGoNBDClientDialect(t *testing.T) {
	w := newWorld(t, nil)
	conn, err := net.Dial("tcp", w.tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	read := func(v any) {
		t.Helper()
		if err := binary.Read(conn, binary.BigEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	write := func(v any) {
		t.Helper()
		if err := binary.Write(conn, binary.BigEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	var hello protocol.NegotiationNewstyleHeader
	read(&hello)
	write(uint32(0))
	write(protocol.NegotiationOptionHeader{
		OptionMagic: protocol.NEGOTIATION_MAGIC_OPTION, ID: protocol.NEGOTIATION_ID_OPTION_LIST,
	})
	var names []string
	for {
		var h protocol.NegotiationReplyHeader
		read(&h)
		if h.Type == protocol.NEGOTIATION_TYPE_REPLY_ACK {
			break
		}
		b := make([]byte, h.Length)
		if _, err := io.ReadFull(conn, b); err != nil {
			t.Fatal(err)
		}
		names = append(names, string(b[4:4+binary.BigEndian.Uint32(b)]))
	}
	if fmt.Sprint(names) != "[e ro]" {
		t.Errorf("names %v", names)
	}
	write(protocol.NegotiationOptionHeader{
		OptionMagic: protocol.NEGOTIATION_MAGIC_OPTION, ID: protocol.NEGOTIATION_ID_OPTION_ABORT,
	})
	var h protocol.NegotiationReplyHeader
	read(&h)
}
