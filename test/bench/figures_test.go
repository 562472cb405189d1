package bench

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// numbers returns the comma-separated numbers of an environment variable, or else the defaults.
func numbers(b *testing.B, variable string, defaults ...int) []int {
	b.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return defaults
	}
	var all []int
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 {
			b.Fatalf("%s must be numbers, comma separated, not %q", variable, text)
		}
		all = append(all, n)
	}
	return all
}

func since(before, after map[string]float64) map[string]float64 {
	difference := map[string]float64{}
	for method, count := range after {
		difference[method] = count - before[method]
	}
	return difference
}

func total(requests map[string]float64) float64 {
	var sum float64
	for _, count := range requests {
		sum += count
	}
	return sum
}

func writes(requests map[string]float64) float64 { return total(requests) - requests[http.MethodGet] }

func list(requests map[string]float64) string {
	var parts []string
	for _, method := range slices.Sorted(maps.Keys(requests)) {
		parts = append(parts, fmt.Sprintf("%s %.0f", method, requests[method]))
	}
	return strings.Join(parts, ", ")
}

// per lists the requests per run for n runs, except those that are almost none.
func per(requests map[string]float64, n int) string {
	var parts []string
	for _, method := range slices.Sorted(maps.Keys(requests)) {
		if requests[method]/float64(n) >= 0.05 {
			parts = append(parts, fmt.Sprintf("%s %.1f", method, requests[method]/float64(n)))
		}
	}
	return strings.Join(parts, ", ")
}

func mib(n float64) string { return fmt.Sprintf("%.0f MiB", n) }

func bytes(n int) string { return fmt.Sprintf("%d bytes", n) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func rate(perSecond float64) string { return fmt.Sprintf("%.0f/s", perSecond) }

// ratio formats the ratio of two rates. It is a dash if one was not measured.
func ratio(ours, theirs float64) string {
	if ours == 0 || theirs == 0 {
		return "–"
	}
	return times(ours / theirs)
}

// times formats a ratio. It is a dash if something was not measured.
func times(ratio float64) string {
	if ratio == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", ratio)
}

// median returns the median of a figure over the rounds.
func median[R any](rounds []R, figure func(R) float64) float64 {
	all := make([]float64, 0, len(rounds))
	for _, r := range rounds {
		all = append(all, figure(r))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// medianRatio returns the median of the ratio of two figures over the rounds. It is zero if one was not measured.
func medianRatio[R any](rounds []R, ours, theirs func(R) float64) float64 {
	for _, r := range rounds {
		if theirs(r) == 0 {
			return 0
		}
	}
	return median(rounds, func(r R) float64 { return ours(r) / theirs(r) })
}

// table prints a table in the format of the docs. The first cell of a row is its name.
func table(head []string, rows [][]string) {
	var text strings.Builder
	fmt.Fprintf(&text, "\n| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("---|", len(head)))
	for _, row := range rows {
		fmt.Fprintf(&text, "| %s |\n", strings.Join(row, " | "))
	}
	// Not b.Log, which cuts long output.
	fmt.Println(text.String())
}
