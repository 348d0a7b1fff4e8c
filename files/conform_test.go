package files

import (
	"testing"

	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/sftp/sftptest"
)

// The trees keep the promises of sftp.Tree, over SSH.
func TestConformance(t *testing.T) {
	t.Run("job", func(t *testing.T) {
		w := newWorld(t)
		session, _ := w.job("vm")
		sftptest.TestTree(t, sftptest.Suite{Open: func(c sftp.Conn) (sftp.Tree, error) { return w.s.JobTree(session, c.ID) }})
	})
	t.Run("user", func(t *testing.T) {
		w := newWorld(t)
		u := User{Name: "u", VM: "vm", Restore: true, CommitOnRename: true, Quota: 1 << 30}
		sftptest.TestTree(t, sftptest.Suite{Open: func(c sftp.Conn) (sftp.Tree, error) { return w.s.UserTree(u, c.ID) }})
	})
	t.Run("users", func(t *testing.T) {
		w := newWorld(t)
		u := User{Name: "u", VMs: []string{"web*"}}
		sftptest.TestTree(t, sftptest.Suite{Dir: "/web7", Open: func(c sftp.Conn) (sftp.Tree, error) { return w.s.UserTree(u, c.ID) }})
	})
}
