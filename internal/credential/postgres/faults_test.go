package postgres

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// tracer calls a function before each statement.
type tracer func(ctx context.Context, conn *pgx.Conn, statement string) context.Context

func (f tracer) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return f(ctx, conn, data.SQL)
}

func (tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// onStatement has a function called before each statement.
func onStatement(f func(statement string)) func(*pgxpool.Config) {
	return func(c *pgxpool.Config) {
		c.ConnConfig.Tracer = tracer(func(ctx context.Context, _ *pgx.Conn, statement string) context.Context {
			f(statement)
			return ctx
		})
	}
}

// exec executes statements on a connection of their own.
func exec(t testing.TB, config *pgx.ConnConfig, statements string) {
	t.Helper()
	conn, err := pgx.ConnectConfig(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.PgConn().Exec(context.Background(), statements).ReadAll(); err != nil {
		t.Fatalf("executing %s: %v", statements, err)
	}
}
