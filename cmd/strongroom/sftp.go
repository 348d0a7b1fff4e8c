package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/term"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

const (
	// passwordMin keeps what can be guessed over the network out.
	passwordMin = 12
	// passwordMax is what bcrypt looks at.
	passwordMax = 72
	// passwordCost is some 300 ms of one processor for each guess.
	passwordCost = 12
)

func newSFTP(e *env) *cli.Command {
	return &cli.Command{
		Name:  "sftp",
		Usage: "show the SSH host key and who is connected; hash passwords",
		Subcommands: []*cli.Command{
			{
				Name:  "host-key",
				Usage: "show the host key that clients must know, and a line for known_hosts",
				Flags: clientFlags(),
				Action: func(c *cli.Context) error {
					return ask(e, c, 0, 0, func(client *api.Client) (api.SFTPInfo, error) {
						info, err := client.Info(c.Context)
						if err == nil && info.SFTP == nil {
							err = &refusedError{errors.New("the server does not serve SFTP: set sftp.listen")}
						}
						if err != nil {
							return api.SFTPInfo{}, err
						}
						return *info.SFTP, nil
					}, showHostKey)
				},
			},
			{
				Name:    "connections",
				Aliases: []string{"ls"},
				Usage:   "list the clients that are connected",
				Flags:   clientFlags(),
				Action: func(c *cli.Context) error {
					return ask(e, c, 0, 0, func(client *api.Client) ([]api.SFTPConnection, error) {
						return client.SFTPConnections(c.Context)
					}, showConnections)
				},
			},
			{
				Name:  "hash-password",
				Usage: "make the password-hash of a user in the server's configuration",
				Description: "Reads the password from the terminal, without showing it, or the first line of standard input.\n" +
					"Keys are better: a password is for tools that know nothing else.",
				Flags:  []cli.Flag{jsonFlag()},
				Action: func(c *cli.Context) error { return runHashPassword(e, c) },
			},
		},
	}
}

func showHostKey(w io.Writer, s api.SFTPInfo) error {
	if err := fields(w, "address", s.Address, "fingerprint", s.Fingerprint, "host key", s.HostKey); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", s.KnownHosts)
	return err
}

func showConnections(w io.Writer, list []api.SFTPConnection) error {
	t := newTable("ID", "REMOTE", "USER", "LOGIN", "CONNECTED", ">OPEN", ">IN", ">OUT", "CLIENT")
	for _, c := range list {
		t.add(c.ID, c.Remote, dash(c.User), dash(c.Method), max(time.Since(c.Connected), 0).Round(time.Second).String(),
			fmt.Sprint(c.Handles), units.Human(c.BytesIn), units.Human(c.BytesOut), printable(c.Client))
	}
	return t.print(w)
}

// printable keeps what clients chose from steering a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

func runHashPassword(e *env, c *cli.Context) error {
	if err := arguments(c, 0, 0); err != nil {
		return err
	}
	password, err := readPassword(e)
	if err != nil {
		return err
	}
	if len(password) < passwordMin || len(password) > passwordMax {
		return usagef("the password has %d bytes; want %d to %d", len(password), passwordMin, passwordMax)
	}
	hash, err := bcrypt.GenerateFromPassword(password, passwordCost)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(e.stdout, map[string]string{"password_hash": string(hash)})
	}
	_, err = fmt.Fprintln(e.stdout, string(hash))
	return err
}

// readPassword asks twice on a terminal, where a slip would not be seen.
func readPassword(e *env) ([]byte, error) {
	if !isTerminal(e.stdin) {
		line, err := bufio.NewReader(io.LimitReader(e.stdin, 4*passwordMax)).ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return bytes.TrimRight(line, "\r\n"), nil
	}
	var typed [2][]byte
	for i, prompt := range []string{"Password: ", "Once more: "} {
		fmt.Fprint(e.stderr, prompt)
		text, err := term.ReadPassword(int(e.stdin.(*os.File).Fd()))
		fmt.Fprintln(e.stderr)
		if err != nil {
			return nil, err
		}
		typed[i] = text
	}
	if !bytes.Equal(typed[0], typed[1]) {
		return nil, usagef("the two differ")
	}
	return typed[0], nil
}
