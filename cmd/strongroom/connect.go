package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/server"
	"github.com/strongroom-backup/strongroom/server/api"
)

const tokenFileMax = 4096

// clientFlags are the flags of every command that asks a server, and the
// command's own.
func clientFlags(own ...cli.Flag) []cli.Flag {
	return append(own,
		jsonFlag(),
		&cli.StringFlag{Name: "api", Category: "server", EnvVars: []string{"STRONGROOM_API"},
			Usage: "`SOCKET` or URL of the server's control API (default: api.sock in the data directory)"},
		dataFlag("server"),
		&cli.StringFlag{Name: "api-token-file", Category: "server", EnvVars: []string{"STRONGROOM_API_TOKEN_FILE"},
			Usage: "`FILE` with the token for an API over TCP"},
		&cli.StringFlag{Name: "tls-ca", Category: "server", Usage: "`FILE` of the authorities that sign the server's certificate (default: the system's)"},
		&cli.StringFlag{Name: "tls-cert", Category: "server", Usage: "client certificate `FILE`"},
		&cli.StringFlag{Name: "tls-key", Category: "server", Usage: "client key `FILE`"},
	)
}

func jsonFlag() cli.Flag { return &cli.BoolFlag{Name: "json", Usage: "print JSON"} }

func dataFlag(category string) cli.Flag {
	return &cli.StringFlag{Name: "data", Category: category, EnvVars: []string{"STRONGROOM_DATA"},
		Usage: "data directory `DIR` (default: " + server.NewConfig().Data + ")"}
}

// connect makes the client that the flags describe.
func connect(c *cli.Context) (*api.Client, error) {
	target := c.String("api")
	if target == "" {
		config := server.NewConfig()
		if dir := c.String("data"); dir != "" {
			config.Data = dir
		}
		target = config.APISocket()
	}
	var o api.ClientOptions
	var err error
	if path := c.String("api-token-file"); path != "" {
		if o.Token, err = readToken(path); err != nil {
			return nil, err
		}
	}
	if o.TLS, err = tlsConfig(c); err != nil {
		return nil, err
	}
	client, err := api.NewClient(target, o)
	if err != nil {
		return nil, usagef("%v", err)
	}
	return client, nil
}

func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, tokenFileMax))
	return strings.TrimSpace(string(text)), err
}

// tlsConfig is nil when no TLS flag is given.
func tlsConfig(c *cli.Context) (*tls.Config, error) {
	ca, cert, key := c.String("tls-ca"), c.String("tls-cert"), c.String("tls-key")
	if ca == "" && cert == "" && key == "" {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(filepath.Clean(ca))
		if err != nil {
			return nil, err
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usagef("--tls-ca: %s holds no certificate", ca)
		}
	}
	if cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, &usageError{message: fmt.Sprintf("--tls-cert and --tls-key: %v", err)}
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// ask is the action of a command that asks a server one thing: it connects,
// asks, and prints the answer as JSON or with show.
func ask[T any](e *env, c *cli.Context, least, most int, question func(*api.Client) (T, error), show func(io.Writer, T) error) error {
	if err := arguments(c, least, most); err != nil {
		return err
	}
	client, err := connect(c)
	if err != nil {
		return err
	}
	defer client.Close()
	answer, err := question(client)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(e.stdout, answer)
	}
	return show(e.stdout, answer)
}
