package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// answer is what became of one of the statements in STATEMENTS.
type answer struct {
	Statement string `json:"statement"`
	// Value is the last value, or else the last command's tag.
	Value string `json:"value,omitempty"`
	// Code is the SQLSTATE of an error of the server, and `connection` for another error.
	Code  string `json:"code,omitempty"`
	Error string `json:"error,omitempty"`
}

// executeSQL executes the statements in STATEMENTS, one in each line, and writes an answer to each as a line of JSON. A session that
// the server has ended is followed by another one.
func executeSQL(ctx context.Context, env environment, out io.Writer) error {
	b, err := readBinding(env)
	if err != nil {
		return err
	}
	if b == nil {
		return fmt.Errorf("%w: the run has no credential %s", errRefused, bindingName)
	}
	config, err := b.config()
	if err != nil {
		return err
	}
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
		}
	}()
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for line := range strings.Lines(env["STATEMENTS"]) {
		statement := strings.TrimSpace(line)
		if statement == "" {
			continue
		}
		a := answer{Statement: statement}
		if conn == nil || conn.IsClosed() {
			conn, err = pgx.ConnectConfig(ctx, config)
		}
		if err == nil {
			a.Value, err = lastValue(ctx, conn, statement)
		}
		if ctx.Err() != nil {
			return errStopped
		}
		a.Code, a.Error = describe(err)
		err = nil
		if err := encoder.Encode(a); err != nil {
			return err
		}
	}
	return nil
}

// lastValue executes statements and returns the last value, or else the last command's tag.
func lastValue(ctx context.Context, conn *pgx.Conn, statements string) (string, error) {
	if strings.HasPrefix(statements, "COPY ") && strings.HasSuffix(statements, " TO STDOUT") {
		tag, err := conn.PgConn().CopyTo(ctx, io.Discard, statements)
		return tag.String(), err
	}
	results, err := conn.PgConn().Exec(ctx, statements).ReadAll()
	if err != nil || len(results) == 0 {
		return "", err
	}
	last := results[len(results)-1]
	if len(last.Rows) == 0 {
		return last.CommandTag.String(), nil
	}
	return string(last.Rows[len(last.Rows)-1][0]), nil
}

func describe(err error) (code, message string) {
	var fromServer *pgconn.PgError
	switch {
	case err == nil:
		return "", ""
	case errors.As(err, &fromServer):
		return fromServer.Code, fromServer.Message
	default:
		return "connection", err.Error()
	}
}
