// Command database runs the PostgreSQL of the demo and of the end-to-end tests, beside the pods of a local cluster. hack/database.sh
// calls it.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/jackc/pgx/v5"

	"github.com/tenantry/tenantry/internal/credential/postgres/postgrestest"
)

const (
	// database that runs use.
	database = "billing"
	// login is the role that the operator logs in with.
	login = "tenantry_login"
)

// Files of the server's folder. ready is the last that is written.
const (
	caFile            = "ca.crt"
	passwordFile      = "superuser-password"
	loginPasswordFile = "login-password"
	readyFile         = "ready"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	options := postgrestest.Options{Log: os.Stderr}
	flag.StringVar(&options.Dir, "dir", "", "the server's folder, which `serve` makes")
	flag.StringVar(&options.Address, "listen", "", "the address to listen on")
	flag.StringVar(&options.Name, "name", "", "the host name by which clients know the server")
	flag.IntVar(&options.Port, "port", 5432, "the port to listen on")
	flag.Parse()
	if options.Dir == "" || flag.NArg() == 0 {
		return errors.New("usage: database -dir DIR serve FILE... | query STATEMENTS | secrets")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch verb, args := flag.Arg(0), flag.Args()[1:]; verb {
	case "serve":
		return serve(ctx, options, args)
	case "query":
		return query(ctx, options, strings.Join(args, "\n"))
	case "secrets":
		return makeSecrets(options)
	default:
		return fmt.Errorf("unknown verb %q", verb)
	}
}

// serve runs a server with the billing database, in which the files have been executed, until it is stopped.
func serve(ctx context.Context, options postgrestest.Options, files []string) error {
	server, err := postgrestest.StartWith(options)
	if err != nil {
		return err
	}
	defer server.Remove()
	password := rand.Text()
	if err := write(options.Dir, map[string]string{
		caFile: string(server.CA), passwordFile: server.Password, loginPasswordFile: password,
	}); err != nil {
		return err
	}
	if err := execute(ctx, options, "postgres", "CREATE DATABASE "+database); err != nil {
		return err
	}
	for _, file := range files {
		statements, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := execute(ctx, options, database, string(statements)); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	// The password is of letters and digits.
	create := fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'; GRANT tenantry_operator TO %[1]s", login, password)
	if err := execute(ctx, options, database, create); err != nil {
		return err
	}
	if err := write(options.Dir, map[string]string{readyFile: ""}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// makeSecrets makes the folder with what a server elsewhere needs: passwords, a certificate, and that of its authority.
func makeSecrets(options postgrestest.Options) error {
	ca, certificate, key, err := postgrestest.NewCertificate(postgrestest.Certificate{Name: options.Name})
	if err != nil {
		return err
	}
	if err := os.Mkdir(options.Dir, 0o700); err != nil {
		return err
	}
	return write(options.Dir, map[string]string{
		caFile: string(ca), "tls.crt": string(certificate), "tls.key": string(key),
		passwordFile: rand.Text(), loginPasswordFile: rand.Text(),
	})
}

// write writes files, by their names.
func write(dir string, files map[string]string) error {
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// connect returns a connection of the superuser, over the socket in the server's folder.
func connect(ctx context.Context, options postgrestest.Options, name string) (*pgx.Conn, error) {
	password, err := os.ReadFile(filepath.Join(options.Dir, passwordFile))
	if err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig("host=localhost sslmode=disable")
	if err != nil {
		return nil, err
	}
	config.Host, config.Port = options.Dir, uint16(options.Port)
	config.Database, config.User, config.Password = name, postgrestest.Superuser, string(password)
	// The server logs what others send. Here a password may be in it.
	config.RuntimeParams["log_statement"] = "none"
	return pgx.ConnectConfig(ctx, config)
}

func execute(ctx context.Context, options postgrestest.Options, name, statements string) error {
	conn, err := connect(ctx, options, name)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.PgConn().Exec(ctx, statements).ReadAll()
	return err
}

// query executes statements and prints what they return, a line for each row.
func query(ctx context.Context, options postgrestest.Options, statements string) error {
	conn, err := connect(ctx, options, database)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	results, err := conn.PgConn().Exec(ctx, statements).ReadAll()
	if err != nil {
		return err
	}
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	for _, result := range results {
		var header []string
		for _, field := range result.FieldDescriptions {
			header = append(header, strings.ToUpper(field.Name))
		}
		printRow(out, header)
		for _, row := range result.Rows {
			values := make([]string, len(row))
			for i, value := range row {
				values[i] = string(value)
			}
			printRow(out, values)
		}
	}
	return out.Flush()
}

func printRow(out *tabwriter.Writer, values []string) {
	if len(values) > 0 {
		_, _ = fmt.Fprintln(out, strings.Join(values, "\t"))
	}
}
