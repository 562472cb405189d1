package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// bindingName is the name under which a tenant's credential for the billing database is in its Tenant and in the templates.
const bindingName = "database"

// connectTimeout is how long one attempt to connect may take.
const connectTimeout = 10 * time.Second

// binding is a credential: the content of its files by name, see servicebinding.io.
type binding map[string]string

// readBinding returns the credential for the billing database, or nil when the run has none.
func readBinding(env environment) (binding, error) {
	root := env["SERVICE_BINDING_ROOT"]
	if root == "" {
		return nil, nil
	}
	dir := filepath.Join(root, bindingName)
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the credential: %w", err)
	}
	b := binding{}
	for _, file := range files {
		// Kubernetes' links to the version of the files that is the current one.
		if strings.HasPrefix(file.Name(), "..") {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading the credential: %w", err)
		}
		b[file.Name()] = string(content)
	}
	return b, nil
}

// config returns how to connect. The server has to prove that it is the one that the credential names.
func (b binding) config() (*pgx.ConnConfig, error) {
	if b["sslmode"] != "verify-full" {
		return nil, fmt.Errorf("%w: the credential's sslmode is %q, and this program needs verify-full", errRefused, b["sslmode"])
	}
	port, err := strconv.ParseUint(b["port"], 10, 16)
	if err != nil {
		return nil, fmt.Errorf("%w: the credential's port is %q", errRefused, b["port"])
	}
	config, err := pgx.ParseConfig("host=localhost sslmode=disable")
	if err != nil {
		return nil, err
	}
	var roots *x509.CertPool
	if ca, ok := b["ca.crt"]; ok {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(ca)) {
			return nil, fmt.Errorf("%w: the credential's ca.crt has no certificate", errRefused)
		}
	}
	config.Host, config.Port = b["host"], uint16(port)
	config.Database, config.User, config.Password = b["database"], b["username"], b["password"]
	config.TLSConfig = &tls.Config{ServerName: b["host"], RootCAs: roots, MinVersion: tls.VersionTLS12}
	config.Fallbacks = nil
	config.ConnectTimeout = connectTimeout
	config.RuntimeParams["application_name"] = "hotspot"
	return config, nil
}

// statement is one step of a job in the database. None of them names a tenant: that is the point of this program.
type statement struct {
	// done says what the rows are that it has changed: "users disconnected".
	done string
	// missing is what is wrong when there are no rows. Unset means that this is fine.
	missing string
	// batches means that it is repeated until it changes nothing.
	batches bool
	sql     string
	args    []any
}

// execute executes the statements, all of them or none, and logs how many rows each has changed.
func execute(ctx context.Context, b binding, statements []statement, log *slog.Logger) error {
	config, err := b.config()
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return stoppedOr(ctx, err)
	}
	// The server ends the session itself when this does not reach it.
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()

	rows := make([]int64, len(statements))
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for i, s := range statements {
			if rows[i], err = s.execute(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return stoppedOr(ctx, err)
	}
	for i, s := range statements {
		if s.done != "" {
			log.Info(s.done, "rows", rows[i])
		}
	}
	return nil
}

// execute returns the number of rows that it has changed.
func (s statement) execute(ctx context.Context, tx pgx.Tx) (int64, error) {
	var all int64
	for {
		tag, err := tx.Exec(ctx, s.sql, s.args...)
		if err != nil {
			return 0, err
		}
		all += tag.RowsAffected()
		if s.missing != "" && all == 0 {
			return 0, errors.New(s.missing)
		}
		if !s.batches || tag.RowsAffected() == 0 {
			return all, nil
		}
	}
}

// stoppedOr returns the error, unless a signal was the cause of it.
func stoppedOr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errStopped
	}
	return err
}
