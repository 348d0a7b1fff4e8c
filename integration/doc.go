// Package integration holds the tests of the whole: the real binary, spoken to
// by the clients it is made for (qemu-storage-daemon, qemu-img, libnbd's tools,
// fio, go-nbd, sshfs, OpenSSH's sftp, scp and ssh, rclone, pkg/sftp). Nothing in it is mocked, and a client that is not installed is
// a failure.
//
// A scene is one server, one storage daemon and a directory; a guest is a disk
// of that daemon with a model of its content beside it. Tests state what a
// point must hold by keeping a copy of the model from the moment the backup
// began.
//
// Sub-packages: rig runs the binary, guest runs real machines, demo is the
// program behind "make demo".
package integration
