package metrics

import (
	"github.com/strongroom-backup/strongroom/files"
	"github.com/strongroom-backup/strongroom/sftp"
)

var (
	sftpOpen        = gauge("sftp_connections", "SFTP connections open, by state: those that are logging in, and the others.", "state")
	sftpSessions    = gauge("sftp_sessions", "SFTP sessions open: connections that started the subsystem.")
	sftpHandles     = gauge("sftp_handles", "Files and folders that SFTP clients have open.")
	sftpAccepted    = counter("sftp_connections_accepted_total", "SFTP connections accepted.")
	sftpBegun       = counter("sftp_sessions_started_total", "SFTP sessions begun.")
	sftpLogins      = counter("sftp_logins_total", "SFTP logins, by method: key, certificate, password.", "method")
	sftpLoginsBad   = counter("sftp_login_failures_total", "Keys, certificates and passwords that did not let in.", "method")
	sftpHandshakes  = counter("sftp_handshake_failures_total", "SFTP connections that ended before they had logged in.")
	sftpRefused     = counter("sftp_refused_total", "What SFTP clients asked for and must not have: connections over a limit, channels, requests (exec, shell, forwarding), sessions.", "what")
	sftpDead        = counter("sftp_dead_connections_total", "SFTP connections ended because the client gave no sign of life.")
	sftpErrors      = counter("sftp_protocol_errors_total", "Malformed packets from SFTP clients.")
	sftpRequests    = counter("sftp_requests_total", "SFTP requests answered, errors included.", "request")
	sftpRequestsBad = counter("sftp_request_errors_total", "SFTP requests answered with an error; many are ordinary, such as a look for a file that is not there.", "request")
	sftpDuration    = histogram("sftp_request_duration_seconds", "Time from a parsed SFTP request to its reply.", "request")
	sftpBytes       = counter("sftp_bytes_total", "Bytes of files that SFTP clients read and wrote.", "direction")

	fileBytes       = counter("file_bytes_total", "Bytes of files read, those of points included, and written to backups.", "direction")
	fileImports     = counter("file_imports_total", "Files that became images of disks, and those that could not.", "result")
	fileImported    = counter("file_imported_bytes_total", "Sizes of the disks that files became images of.")
	fileCommits     = counter("file_commits_total", "Commits of backups with files, and those that failed.", "result")
	fileFolders     = gauge("file_folders", "Folders of open backups in memory.")
	filePieces      = gauge("file_gathered_pieces", "Pieces of 1 MiB of files that are gathered and not stored yet.")
	fileViewBytes   = gauge("file_view_bytes", "Memory of the tables of virtual files.")
	fileHandlesOpen = gauge("file_handles", "Files open, by all clients.")
)

// collectSFTP exports nothing of a server that does not serve SFTP.
func (s Sources) collectSFTP(to sink) {
	if s.SFTP == nil {
		return
	}
	st := s.SFTP()
	put(to, sftpOpen, st.Logins, "login")
	put(to, sftpOpen, st.Connections-st.Logins, "open")
	put(to, sftpSessions, st.Sessions)
	put(to, sftpHandles, st.Handles)
	put(to, sftpAccepted, st.ConnectionsTotal)
	put(to, sftpBegun, st.SessionsTotal)
	putEach(to, sftpLogins, st.LoginsTotal)
	putEach(to, sftpLoginsBad, st.LoginsFailed)
	put(to, sftpHandshakes, st.HandshakeFailures)
	putEach(to, sftpRefused, st.Refused)
	put(to, sftpDead, st.Dead)
	put(to, sftpErrors, st.ProtocolErrors)
	collectSFTPRequests(to, st.Requests)
	put(to, sftpBytes, st.ReadBytes, "read")
	put(to, sftpBytes, st.WrittenBytes, "written")
}

func collectSFTPRequests(to sink, list []sftp.RequestStats) {
	for _, r := range list {
		put(to, sftpRequests, r.Requests, r.Request)
		put(to, sftpRequestsBad, r.Errors, r.Request)
		putHist(to, sftpDuration, r.Latency, r.Request)
	}
}

// putEach sends a counter of which the labels are few and fixed.
func putEach(to sink, m metric, counts map[string]uint64) {
	for label, n := range counts {
		put(to, m, n, label)
	}
}

func collectFiles(to sink, s files.Stats) {
	put(to, fileBytes, s.ReadBytes, "read")
	put(to, fileBytes, s.WrittenBytes, "written")
	put(to, fileImports, s.Imports, "done")
	put(to, fileImports, s.ImportErrors, "failed")
	put(to, fileImported, s.ImportedBytes)
	put(to, fileCommits, s.Commits, "done")
	put(to, fileCommits, s.CommitErrors, "failed")
	put(to, fileFolders, s.Folders)
	put(to, filePieces, s.Pieces)
	put(to, fileViewBytes, s.ViewBytes)
	put(to, fileHandlesOpen, s.Handles)
}
