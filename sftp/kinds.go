package sftp

import sshfx "github.com/pkg/sftp/v2/encoding/ssh/filexfer"

// kind is a type of request, extensions apart.
type kind int

const (
	kindInit kind = iota
	kindOpen
	kindClose
	kindRead
	kindWrite
	kindLstat
	kindFstat
	kindSetstat
	kindFsetstat
	kindOpendir
	kindReaddir
	kindRemove
	kindMkdir
	kindRmdir
	kindRealpath
	kindStat
	kindRename
	kindReadlink
	kindSymlink
	kindPosixRename
	kindHardlink
	kindStatvfs
	kindFstatvfs
	kindFsync
	kindLimits
	kindLsetstat
	kindUnknown
	kinds
)

// kindNames are the labels of RequestStats.
var kindNames = [kinds]string{
	kindInit: "init", kindOpen: "open", kindClose: "close", kindRead: "read", kindWrite: "write",
	kindLstat: "lstat", kindFstat: "fstat", kindSetstat: "setstat", kindFsetstat: "fsetstat",
	kindOpendir: "opendir", kindReaddir: "readdir", kindRemove: "remove", kindMkdir: "mkdir",
	kindRmdir: "rmdir", kindRealpath: "realpath", kindStat: "stat", kindRename: "rename",
	kindReadlink: "readlink", kindSymlink: "symlink", kindPosixRename: "posix-rename",
	kindHardlink: "hardlink", kindStatvfs: "statvfs", kindFstatvfs: "fstatvfs", kindFsync: "fsync",
	kindLimits: "limits", kindLsetstat: "lsetstat", kindUnknown: "unknown",
}

// kindOfType finds the kind of a packet; those of EXTENDED come from extensions.
var kindOfType = [256]kind{
	sshfx.PacketTypeOpen: kindOpen, sshfx.PacketTypeClose: kindClose, sshfx.PacketTypeRead: kindRead,
	sshfx.PacketTypeWrite: kindWrite, sshfx.PacketTypeLStat: kindLstat, sshfx.PacketTypeFStat: kindFstat,
	sshfx.PacketTypeSetStat: kindSetstat, sshfx.PacketTypeFSetStat: kindFsetstat,
	sshfx.PacketTypeOpenDir: kindOpendir, sshfx.PacketTypeReadDir: kindReaddir,
	sshfx.PacketTypeRemove: kindRemove, sshfx.PacketTypeMkdir: kindMkdir, sshfx.PacketTypeRmdir: kindRmdir,
	sshfx.PacketTypeRealPath: kindRealpath, sshfx.PacketTypeStat: kindStat, sshfx.PacketTypeRename: kindRename,
	sshfx.PacketTypeReadLink: kindReadlink, sshfx.PacketTypeSymlink: kindSymlink,
}

// extension is one we tell of in VERSION, with the data OpenSSH gives it.
type extension struct {
	name, data string
	kind       kind
}

var extensions = []extension{
	{"posix-rename@openssh.com", "1", kindPosixRename},
	{"hardlink@openssh.com", "1", kindHardlink},
	{"statvfs@openssh.com", "2", kindStatvfs},
	{"fstatvfs@openssh.com", "2", kindFstatvfs},
	{"fsync@openssh.com", "1", kindFsync},
	{"limits@openssh.com", "1", kindLimits},
	{"lsetstat@openssh.com", "1", kindLsetstat},
}

func kindOfExtension(name []byte) kind {
	for _, e := range extensions {
		if e.name == string(name) {
			return e.kind
		}
	}
	return kindUnknown
}

func init() {
	for i, k := range kindOfType {
		if k == kindInit {
			kindOfType[i] = kindUnknown
		}
	}
}
