package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/etc"
	"github.com/strongroom-backup/strongroom/server"
)

func newConfig(e *env) *cli.Command {
	return &cli.Command{
		Name:  "config",
		Usage: "check, show and explain the server's configuration",
		Subcommands: []*cli.Command{
			{
				Name:        "check",
				Usage:       "report every problem of a configuration",
				Description: "Also reads the certificates, keys and token that the configuration names.",
				Flags:       append(serverFlags(), jsonFlag()),
				Action:      func(c *cli.Context) error { return runConfigCheck(e, c) },
			},
			{
				Name:        "show",
				Usage:       "print every setting as the server would use it",
				Description: "Secrets are in files of their own and are not printed, nor are the hashes of passwords.",
				Flags:       append(serverFlags(), jsonFlag()),
				Action:      func(c *cli.Context) error { return runConfigShow(e, c) },
			},
			{
				Name:  "example",
				Usage: "print a commented configuration file; its values are the defaults",
				Action: func(c *cli.Context) error {
					if err := arguments(c, 0, 0); err != nil {
						return err
					}
					_, err := e.stdout.Write(etc.Example)
					return err
				},
			},
		},
	}
}

// serverFlags are the flags a configuration is put together from.
func serverFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "config", EnvVars: []string{"STRONGROOM_CONFIG"}, Usage: "configuration `FILE` (default: none)"},
		&cli.StringFlag{Name: "data", Usage: "data directory `DIR` (data)"},
		&cli.StringFlag{Name: "nbd-listen", Usage: "`HOST:PORT` of the NBD server, or none (nbd.listen)"},
		&cli.StringFlag{Name: "nbd-socket", Usage: "`PATH` of the NBD unix socket, or none (nbd.socket)"},
		&cli.StringFlag{Name: "sftp-listen", Usage: "`HOST:PORT` of the SFTP server, or none (sftp.listen)"},
		&cli.StringFlag{Name: "api-socket", Usage: "`PATH` of the control API's unix socket, or none (api.socket)"},
		&cli.StringFlag{Name: "http-listen", Usage: "`HOST:PORT` of metrics, health and API, or none (http.listen)"},
		&cli.StringFlag{Name: "log-level", Usage: "`LEVEL` debug, info, warn or error (log.level)"},
		&cli.StringFlag{Name: "log-format", Usage: "`FORMAT` text or json (log.format)"},
		&cli.StringSliceFlag{Name: "set", Usage: "any other setting, as `KEY=VALUE`; may be repeated"},
	}
}

// flagSettings are the settings that have a flag of their own.
var flagSettings = map[string]string{
	"data": "data", "nbd-listen": "nbd.listen", "nbd-socket": "nbd.socket", "sftp-listen": "sftp.listen", "api-socket": "api.socket",
	"http-listen": "http.listen", "log-level": "log.level", "log-format": "log.format",
}

// loadConfig puts the configuration together from file, environment and flags.
// Problems are usage errors.
func loadConfig(c *cli.Context) (config server.Config, warnings []string, err error) {
	if err := arguments(c, 0, 0); err != nil {
		return config, nil, err
	}
	src := server.Sources{File: c.String("config"), Environ: os.Environ()}
	for _, kv := range c.StringSlice("set") {
		f, err := server.ParseFlag(kv)
		if err != nil {
			return config, nil, usagef("--set %v", err)
		}
		src.Flags = append(src.Flags, f)
	}
	for flag, path := range flagSettings {
		if c.IsSet(flag) {
			src.Flags = append(src.Flags, server.Flag{Path: path, Value: c.String(flag)})
		}
	}
	config, warnings, err = server.Load(src)
	if err != nil {
		err = &usageError{message: "configuration:\n" + err.Error(), hint: "strongroom config example explains every setting"}
	}
	return config, warnings, err
}

func runConfigCheck(e *env, c *cli.Context) error {
	config, warnings, err := loadConfig(c)
	for _, w := range warnings {
		e.warn(w)
	}
	if err != nil {
		return err
	}
	if err := config.CheckFiles(); err != nil {
		return &usageError{message: "configuration:\n" + err.Error()}
	}
	if c.Bool("json") {
		return printJSON(e.stdout, map[string]any{"ok": true, "warnings": append([]string{}, warnings...)})
	}
	_, err = e.stdout.Write([]byte("the configuration is good\n"))
	return err
}

func runConfigShow(e *env, c *cli.Context) error {
	config, warnings, err := loadConfig(c)
	for _, w := range warnings {
		e.warn(w)
	}
	if err != nil {
		return err
	}
	config = config.WithoutHashes()
	if c.Bool("json") {
		return printJSON(e.stdout, config.Map())
	}
	_, err = e.stdout.Write(config.YAML())
	return err
}
