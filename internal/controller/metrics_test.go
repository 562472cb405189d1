package controller

import (
	"testing"

	"github.com/onsi/gomega"
)

// TestMetricsOfOneThatStandsBy: its caches know what the leader knows, and everything would be counted twice.
func TestMetricsOfOneThatStandsBy(t *testing.T) {
	t.Parallel()
	elected := make(chan struct{})
	ask := onceElected(elected, func() map[string]int { return map[string]int{"acme": 1} })
	g := gomega.NewWithT(t)
	g.Expect(ask()).To(gomega.BeEmpty())
	close(elected)
	g.Expect(ask()).To(gomega.HaveLen(1))
}
