package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// scraper accepts every certificate, since those of the built-in controllers are self-signed.
var scraper = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}

// endpoint is the address of a process's metrics, and a client for it.
type endpoint struct {
	client *http.Client
	url    string
}

// scrape returns the series and their values.
func (e endpoint) scrape(b *testing.B) map[string]float64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url, nil)
	if err != nil {
		b.Fatal(err)
	}
	var response *http.Response
	waitFor(b, "the metrics at "+e.url, func() bool {
		response, err = e.client.Do(request)
		return err == nil || ctx.Err() != nil
	})
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	series := map[string]float64{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, text, found := strings.Cut(lines.Text(), "} ")
		if found {
			name += "}"
		} else {
			name, text, _ = strings.Cut(lines.Text(), " ")
		}
		if value, err := strconv.ParseFloat(text, 64); err == nil {
			series[name] = value
		}
	}
	if response.StatusCode != http.StatusOK {
		b.Fatalf("reading %s: %s", e.url, response.Status)
	}
	return series
}

func label(series, name string) string {
	_, after, _ := strings.Cut(series, name+`="`)
	value, _, _ := strings.Cut(after, `"`)
	return value
}

// apiServer returns the endpoint of an API server's metrics.
func apiServer(b *testing.B, config *rest.Config) endpoint {
	b.Helper()
	c, err := rest.HTTPClientFor(config)
	if err != nil {
		b.Fatal(err)
	}
	return endpoint{c, strings.TrimSuffix(config.Host, "/") + "/metrics"}
}

// served counts the writes of all clients that an API server has handled, by verb and resource.
func (e endpoint) served(b *testing.B) map[string]float64 {
	b.Helper()
	counts := map[string]float64{}
	for series, value := range e.scrape(b) {
		if !strings.HasPrefix(series, "apiserver_request_total{") {
			continue
		}
		resource := label(series, "resource")
		if subresource := label(series, "subresource"); subresource != "" {
			resource += "/" + subresource
		}
		switch verb := label(series, "verb"); verb {
		case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, "APPLY":
			counts[verb+" "+resource] += value
		}
	}
	return counts
}

// spent is CPU time, in seconds, without etcd's.
type spent struct{ apiServer, controller, benchmark float64 }

// spent returns the CPU time of the API server, of a controller if there is one, and of this process, since they were
// started.
func (e *environment) spent(b *testing.B, controller *process) spent {
	b.Helper()
	const series = "process_cpu_seconds_total"
	s := spent{apiServer: e.apiServer.scrape(b)[series]}
	if controller != nil {
		s.controller = controller.metrics.scrape(b)[series]
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	s.benchmark = time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
	return s
}

func (s spent) since(before spent) spent {
	return spent{s.apiServer - before.apiServer, s.controller - before.controller, s.benchmark - before.benchmark}
}

// per formats the CPU time per run for n runs, in milliseconds.
func (s spent) per(n int) string {
	ms := func(seconds float64) float64 { return seconds * 1000 / float64(n) }
	return fmt.Sprintf("%.2f + %.2f + %.2f ms", ms(s.apiServer), ms(s.controller), ms(s.benchmark))
}
