package sftptest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/sftp/sftptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	mem := sftptest.New()
	sftptest.TestTree(t, sftptest.Suite{Open: func(sftp.Conn) (sftp.Tree, error) { return mem.Tree(), nil }})
	if mem.Trees.Load() != 0 || mem.Handles.Load() != 0 {
		t.Errorf("%d trees and %d files are left open", mem.Trees.Load(), mem.Handles.Load())
	}
}
