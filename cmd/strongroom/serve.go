package main

import (
	"errors"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/buildinfo"
	"github.com/strongroom-backup/strongroom/server"
)

func newServe(e *env) *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "run the server",
		Description: "Runs without any configuration: NBD on 127.0.0.1:10809 and DIR/nbd.sock, the control API on\n" +
			"DIR/api.sock, metrics, health and API on http://127.0.0.1:9180; SFTP is off. Settings come from flags, the\n" +
			"environment (STRONGROOM_NBD_LISTEN for nbd.listen), --config FILE and defaults, in this order;\n" +
			"\"strongroom config example\" explains all of them.\n\n" +
			"SIGTERM or SIGINT answers what is in flight, syncs and ends; a second one ends at once.",
		Flags:  serverFlags(),
		Action: func(c *cli.Context) error { return runServe(e, c) },
	}
}

func runServe(e *env, c *cli.Context) error {
	config, warnings, err := loadConfig(c)
	if err != nil {
		return err
	}
	// Packs, journals and sockets are nobody else's business.
	syscall.Umask(0o077)
	log := server.NewLogger(config.Log, e.stderr)
	for _, w := range warnings {
		log.Warn(w)
	}
	tuneMemory(&config)
	s, err := server.Open(server.Options{Config: config, Log: log, Version: buildinfo.Get().Version})
	if err != nil {
		return serveError(err)
	}
	return s.Run(c.Context)
}

// serveError tells a directory that is another server's from a failure.
func serveError(err error) error {
	if errors.Is(err, server.ErrInUse) || errors.Is(err, server.ErrNewerFormat) {
		return &refusedError{err}
	}
	return err
}
