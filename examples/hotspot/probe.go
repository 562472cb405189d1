package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// report is what a pod was given and what it can reach.
type report struct {
	Tenant       string       `json:"tenant"`
	Environment  []string     `json:"environment"` // names, sorted; the values might be secret
	TokenMounted bool         `json:"tokenMounted"`
	APIServer    apiServer    `json:"apiServer"`
	Connections  []connection `json:"connections"`
}

// apiServer is what became of listing the namespace's secrets.
type apiServer struct {
	Address string `json:"address"`
	Status  int    `json:"status,omitempty"` // of the answer, if there was one
	Error   string `json:"error,omitempty"`
}

type connection struct {
	Address   string `json:"address"`
	Connected bool   `json:"connected"`
	Error     string `json:"error,omitempty"`
}

type prober struct {
	tokenDir string
	timeout  time.Duration // of each attempt
}

func newProber() prober {
	return prober{tokenDir: "/var/run/secrets/kubernetes.io/serviceaccount", timeout: 3 * time.Second}
}

// probe writes its report as one line of JSON. PROBE_CONNECT lists addresses as host:port, separated by commas. One that begins
// with udp/ is asked a DNS question, and is connected if it gives any answer.
func (p prober) probe(ctx context.Context, env environment, out io.Writer) error {
	token, err := os.ReadFile(filepath.Join(p.tokenDir, "token"))
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("reading the token: %w", err)
	}
	r := report{
		Tenant:       env["TENANT_NAME"],
		Environment:  slices.Sorted(maps.Keys(env)),
		TokenMounted: err == nil,
		APIServer:    p.askAPIServer(ctx, env, strings.TrimSpace(string(token))),
		Connections:  []connection{},
	}
	for address := range strings.SplitSeq(env["PROBE_CONNECT"], ",") {
		if address = strings.TrimSpace(address); address != "" {
			r.Connections = append(r.Connections, p.connect(ctx, address))
		}
	}
	if ctx.Err() != nil {
		return errStopped
	}
	return json.NewEncoder(out).Encode(r)
}

func (p prober) connect(ctx context.Context, address string) connection {
	dialer := net.Dialer{Timeout: p.timeout}
	network, target := "tcp", address
	if host, isUDP := strings.CutPrefix(address, "udp/"); isUDP {
		network, target = "udp", host
	}
	conn, err := dialer.DialContext(ctx, network, target)
	if err != nil {
		return connection{Address: address, Error: err.Error()}
	}
	defer func() { _ = conn.Close() }()
	if network == "udp" {
		if err := p.ask(conn); err != nil {
			return connection{Address: address, Error: err.Error()}
		}
	}
	return connection{Address: address, Connected: true}
}

// question asks a DNS for the name servers of the root.
var question = []byte{
	0x7a, 0x11, // id
	0, 0, 0, 1, 0, 0, 0, 0, 0, 0, // flags, one question, nothing else
	0, 0, 2, 0, 1, // the root, NS, IN
}

// ask sends the question until there is an answer, because a datagram may get lost.
func (p prober) ask(conn net.Conn) error {
	const tries = 3
	var err error
	for range tries {
		if err = conn.SetDeadline(time.Now().Add(p.timeout / tries)); err != nil {
			return err
		}
		if _, err = conn.Write(question); err != nil {
			continue
		}
		if _, err = conn.Read(make([]byte, 512)); err == nil {
			return nil
		}
	}
	return err
}

func (p prober) askAPIServer(ctx context.Context, env environment, token string) apiServer {
	address := net.JoinHostPort(env["KUBERNETES_SERVICE_HOST"], cmp.Or(env["KUBERNETES_SERVICE_PORT"], "443"))
	status, err := p.listSecrets(ctx, address, cmp.Or(env["TENANTRY_NAMESPACE"], "default"), token)
	if err != nil {
		return apiServer{Address: address, Error: err.Error()}
	}
	return apiServer{Address: address, Status: status}
}

func (p prober) listSecrets(ctx context.Context, address, namespace, token string) (int, error) {
	config, err := p.tlsConfig(token != "")
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet,
		"https://"+address+"/api/v1/namespaces/"+namespace+"/secrets", nil)
	if err != nil {
		return 0, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Timeout: p.timeout, Transport: &http.Transport{TLSClientConfig: config}}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// tlsConfig trusts the cluster's authority, mounted beside the token. Without a token there is nothing to lose, and
// what is asked is only whether somebody answers.
func (p prober) tlsConfig(hasToken bool) (*tls.Config, error) {
	if !hasToken {
		return &tls.Config{InsecureSkipVerify: true}, nil //nolint:gosec // see above
	}
	authority, err := os.ReadFile(filepath.Join(p.tokenDir, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("reading the cluster's authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, errors.New("reading the cluster's authority: no certificate in it")
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// listen accepts connections at LISTEN_ADDRESS, and sends datagrams back, for RUN_SECONDS, or until it is stopped when they are
// not set.
func listen(ctx context.Context, env environment, log *slog.Logger) error {
	p := &parameters{env: env}
	lasts := p.seconds("RUN_SECONDS")
	if err := p.err(); err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cmp.Or(env["LISTEN_ADDRESS"], ":8080"))
	if err != nil {
		return err
	}
	packets, err := new(net.ListenConfig).ListenPacket(ctx, "udp", listener.Addr().String())
	if err != nil {
		_ = listener.Close()
		return err
	}
	log.Info("listening", "address", listener.Addr().String())
	echoing := make(chan struct{})
	go func() {
		defer close(echoing)
		echo(packets)
	}()
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		accept(listener, log)
	}()

	if lasts == 0 {
		<-ctx.Done()
		err = errStopped
	} else {
		err = wait(ctx, lasts)
	}
	_ = listener.Close()
	_ = packets.Close()
	<-accepting
	<-echoing
	return err
}

// echo ends when the socket is closed.
func echo(packets net.PacketConn) {
	buffer := make([]byte, 512)
	for {
		n, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return
		}
		_, _ = packets.WriteTo(buffer[:n], from)
	}
}

// accept ends when the listener is closed.
func accept(listener net.Listener, log *slog.Logger) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		log.Info("accepted", "from", conn.RemoteAddr().String())
		_ = conn.Close()
	}
}
