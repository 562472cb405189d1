// Package postgrestest runs a PostgreSQL server for tests and for the demo: with TLS and a CA of its own, reachable on 127.0.0.1 only
// if no other address is given, and as an unprivileged user where the tests run as root. The server and its folder are removed at the
// end, also when the process is killed.
package postgrestest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Host is where the servers are.
const Host = "127.0.0.1"

// Superuser is the role that owns everything in a new server.
const Superuser = "postgres"

// startTimeout is long, since a busy machine needs several times as long as an idle one.
const startTimeout = 2 * time.Minute

// supervisor is the program of the shell that starts and ends the server. When the test process is gone, however it ended, the
// shell reads the end of its input, kills the server and removes the folder.
const supervisor = `
trap '' INT TERM HUP
server=
while read -r verb; do
	case $verb in
	start) "$1/postgres" -D "$2/data" >&2 & server=$! ;;
	stop) kill -INT "$server"; wait "$server"; server=; echo stopped ;;
	crash) kill -QUIT "$server"; wait "$server"; server=; echo stopped ;;
	esac
done
[ -z "$server" ] || { kill -QUIT "$server"; wait "$server"; }
cd / && rm -rf "$2"
`

// Server is a running PostgreSQL.
type Server struct {
	// Port on Host.
	Port int
	// Password of the Superuser.
	Password string
	// CA is the certificate, as PEM, of the authority that signed the server's.
	CA []byte

	options   Options
	authority authority
	serial    string
	dir       string
	user      *account
	bin       string
	shell     *exec.Cmd
	verbs     io.WriteCloser
	answers   *bufio.Scanner

	mutex sync.Mutex
	log   bytes.Buffer
	lines chan string
}

// Options are what can be chosen of a server.
type Options struct {
	// Dir is the folder of the server, which must not exist. Unset means a temporary one.
	Dir string
	// Address to listen on, and Port. Unset means Host, and a free port.
	Address string
	Port    int
	// Name is a host name that the certificate is for. Unset means Host.
	Name string
	// Log gets what the server logs. Unset means that the server keeps it, for its method Log.
	Log io.Writer
}

// Main starts a server, stores it in the variable, runs the tests and returns their exit code. It is for TestMain.
func Main(m *testing.M, server **Server) int {
	started, err := Start()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer started.Remove()
	*server = started
	return m.Run()
}

// Start starts a server with an empty database cluster.
func Start() (*Server, error) { return StartWith(Options{}) }

// StartWith starts a server with an empty database cluster.
func StartWith(options Options) (*Server, error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	options.Address = cmp.Or(options.Address, Host)
	s := &Server{options: options, bin: bin, Port: options.Port, Password: rand.Text(), lines: make(chan string, 1000)}
	if s.user, err = unprivileged(); err != nil {
		return nil, err
	}
	if err := s.initialize(); err != nil {
		_ = os.RemoveAll(s.dir)
		return nil, err
	}
	if err := s.supervise(); err != nil {
		_ = os.RemoveAll(s.dir)
		return nil, err
	}
	if err := s.Start(); err != nil {
		s.Remove()
		return nil, err
	}
	return s, nil
}

// programs returns the folder of initdb and postgres. `make test` sets POSTGRES_BIN. Otherwise the script is asked.
func programs() (string, error) {
	if bin := os.Getenv("POSTGRES_BIN"); bin != "" {
		return bin, nil
	}
	_, file, _, _ := runtime.Caller(0)
	script := exec.Command(filepath.Join(filepath.Dir(file), "../../../../hack/postgres.sh"))
	var stderr bytes.Buffer
	script.Stderr = &stderr
	out, err := script.Output()
	if err != nil {
		return "", fmt.Errorf("finding PostgreSQL: %w\n%s", err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}

// initialize makes the folder and the database cluster in it.
func (s *Server) initialize() error {
	var err error
	if s.options.Dir == "" {
		s.dir, err = os.MkdirTemp("", "tenantry-postgres-")
	} else {
		s.dir, err = s.options.Dir, os.Mkdir(s.options.Dir, 0o700)
	}
	if err != nil {
		return err
	}
	if s.bin, err = s.user.reachable(s.bin, filepath.Join(s.dir, "postgresql")); err != nil {
		return fmt.Errorf("copying PostgreSQL: %w", err)
	}
	if s.authority, err = newAuthority(); err != nil {
		return err
	}
	s.CA = s.authority.pem
	password := filepath.Join(s.dir, "password")
	if err := os.WriteFile(password, []byte(s.Password), 0o600); err != nil {
		return err
	}
	if err := s.user.own(s.dir); err != nil {
		return err
	}
	initdb := exec.Command(filepath.Join(s.bin, "initdb"), "--pgdata", filepath.Join(s.dir, "data"), "--username", Superuser,
		"--pwfile", password, "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale", "--no-sync", "--no-instructions")
	s.user.runs(initdb, s.dir)
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("running initdb: %w\n%s", err, out)
	}
	if s.Port == 0 {
		if s.Port, err = freePort(); err != nil {
			return err
		}
	}
	return errors.Join(s.SetCertificate(Certificate{Name: s.options.Name}), s.configure())
}

// configure writes the settings. Everything that clients send is logged, so that tests can search the log for secrets.
func (s *Server) configure() error {
	settings := fmt.Sprintf(`
listen_addresses = '%s'
port = %d
unix_socket_directories = '%s'
ssl = on
ssl_cert_file = 'server.crt'
ssl_key_file = 'server.key'
shared_buffers = 32MB
max_connections = 60
max_prepared_transactions = 5
fsync = off
log_statement = 'all'
log_parameter_max_length_on_error = -1
`, s.options.Address, s.Port, s.dir)
	if err := s.write("postgresql.auto.conf", settings); err != nil {
		return err
	}
	return s.write("pg_hba.conf", "local all all scram-sha-256\nhost all all 0.0.0.0/0 scram-sha-256\n")
}

// write replaces a file in the data folder.
func (s *Server) write(name, content string) error {
	path := filepath.Join(s.dir, "data", name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	return s.user.own(path)
}

// supervise starts the shell.
func (s *Server) supervise() error {
	s.shell = exec.Command("/bin/sh", "-c", supervisor, "supervisor", s.bin, s.dir)
	s.user.runs(s.shell, s.dir)
	stdout, err := s.shell.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := s.shell.StderrPipe()
	if err != nil {
		return err
	}
	if s.verbs, err = s.shell.StdinPipe(); err != nil {
		return err
	}
	s.answers = bufio.NewScanner(stdout)
	go s.record(stderr)
	return s.shell.Start()
}

// record keeps the server's log.
func (s *Server) record(stderr io.Reader) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		s.keep(lines.Text())
		select {
		case s.lines <- lines.Text():
		default: // nobody waits for it
		}
	}
}

func (s *Server) keep(line string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.options.Log == nil {
		s.log.WriteString(line + "\n")
	} else {
		_, _ = fmt.Fprintln(s.options.Log, line)
	}
}

// Log returns everything that the server has logged, unless that goes elsewhere.
func (s *Server) Log() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.log.String()
}

// Start starts the server again that Stop or Crash has ended, and waits until it accepts connections.
func (s *Server) Start() error {
	for len(s.lines) > 0 {
		<-s.lines
	}
	if _, err := fmt.Fprintln(s.verbs, "start"); err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	for {
		select {
		case line := <-s.lines:
			if strings.Contains(line, "ready to accept connections") {
				return nil
			}
			// Clients that connect while it starts get a FATAL of their own, which is none of the server's.
			if strings.Contains(line, "FATAL") && !strings.Contains(line, "the database system is") {
				return fmt.Errorf("starting PostgreSQL: %s", s.Log())
			}
		case <-timeout.C:
			return fmt.Errorf("starting PostgreSQL: it is not ready: %s", s.Log())
		}
	}
}

// Stop ends all sessions and the server.
func (s *Server) Stop() { s.end("stop") }

// Crash ends the server without any clean-up.
func (s *Server) Crash() { s.end("crash") }

func (s *Server) end(verb string) {
	_, _ = fmt.Fprintln(s.verbs, verb)
	s.answers.Scan()
}

// Remove ends the server and removes everything of it.
func (s *Server) Remove() {
	_ = s.verbs.Close()
	_ = s.shell.Wait()
}

// Config returns how to connect to a database, with the server's certificate verified.
func (s *Server) Config(database, user, password string) *pgx.ConnConfig {
	config, err := pgx.ParseConfig("host=" + Host + " sslmode=disable")
	if err != nil {
		panic(err) // a constant
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CA)
	config.Port = uint16(s.Port)
	config.Database, config.User, config.Password = database, user, password
	config.TLSConfig = &tls.Config{ServerName: Host, RootCAs: roots, MinVersion: tls.VersionTLS12}
	config.Fallbacks = nil
	return config
}

// Connect returns a connection, which is closed at the end of the test.
func (s *Server) Connect(t testing.TB, database, user, password string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), s.Config(database, user, password))
	if err != nil {
		t.Fatalf("connecting to %s as %s: %v", database, user, err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Admin returns a connection of the Superuser, which is closed at the end of the test.
func (s *Server) Admin(t testing.TB, database string) *pgx.Conn {
	t.Helper()
	return s.Connect(t, database, Superuser, s.Password)
}

// Exec executes statements as the Superuser.
func (s *Server) Exec(t testing.TB, database, statements string) {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), s.Config(database, Superuser, s.Password))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.PgConn().Exec(t.Context(), statements).ReadAll(); err != nil {
		t.Fatalf("executing %s: %v", statements, err)
	}
}

// freePort returns a port that nobody listens on.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(Host, "0"))
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
