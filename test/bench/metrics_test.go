package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// scraper trusts anybody's certificate: the built-in controllers make one for themselves.
var scraper = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}

// endpoint is where somebody's metrics are.
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

// apiServer is where the metrics of an API server are.
func apiServer(b *testing.B, config *rest.Config) endpoint {
	b.Helper()
	c, err := rest.HTTPClientFor(config)
	if err != nil {
		b.Fatal(err)
	}
	return endpoint{c, strings.TrimSuffix(config.Host, "/") + "/metrics"}
}

// served counts the writes that an API server has got, whoever's, by verb and resource.
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
