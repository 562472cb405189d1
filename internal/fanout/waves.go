package fanout

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// assignWaves puts each candidate into the first wave that selects it, and returns the names of the waves.
func assignWaves(fanOut *v1alpha1.TenantFanOut, all []candidate) ([]string, error) {
	waves := wavesOf(fanOut)
	names := make([]string, 0, len(waves))
	for i := range all {
		all[i].entry.Wave = len(waves)
	}
	order := hashOrder(fanOut.UID, all)
	for w, wave := range waves {
		names = append(names, wave.Name)
		if wave.Selector == nil {
			order = fillWave(all, order, w, len(waves), max(1, scaled(wave.Size, len(all))))
			continue
		}
		matches, err := metav1.LabelSelectorAsSelector(wave.Selector)
		if err != nil {
			return nil, invalid(fmt.Sprintf("the selector of wave %s can't be read: %v", wave.Name, err))
		}
		for i := range all {
			if all[i].entry.Wave == len(waves) && matches.Matches(all[i].labels) {
				all[i].entry.Wave = w
			}
		}
	}
	return names, nil
}

// fillWave puts the next n candidates of an order into wave w, leaving out those that are in a wave already. It returns the
// rest of the order. A candidate whose wave is none is in no wave yet.
func fillWave(all []candidate, order []int, w, none, n int) []int {
	for len(order) > 0 && n > 0 {
		if entry := &all[order[0]].entry; entry.Wave == none {
			entry.Wave = w
			n--
		}
		order = order[1:]
	}
	return order
}

// hashOrder returns the indexes of the candidates in the order in which waves with a size take them. The order is that of a
// hash of the fan-out's and the tenant's UID. It is always the same for one fan-out and differs between fan-outs, so that
// the first wave does not always have the same tenants. Candidates with an outcome come last, since a canary wave of
// suspended tenants would test nothing.
func hashOrder(fanOut types.UID, all []candidate) []int {
	type position struct {
		decided, index int
		hash           uint64
	}
	positions := make([]position, len(all))
	for i, c := range all {
		positions[i] = position{index: i, hash: hash(string(fanOut), identity(c.entry))}
		if c.entry.Outcome.Decided() {
			positions[i].decided = 1
		}
	}
	slices.SortFunc(positions, func(a, b position) int {
		return cmp.Or(a.decided-b.decided, cmp.Compare(a.hash, b.hash), a.index-b.index)
	})
	order := make([]int, len(positions))
	for i, p := range positions {
		order[i] = p.index
	}
	return order
}

// placeInWindow returns how long after the start of a window of so many seconds a tenant is due. A tenant has the same
// place in the window of every fan-out, in proportion to its length. This function must not change: after an
// upgrade tenants would run at other times.
func placeInWindow(e Entry, seconds int32) time.Duration {
	fraction := hash("spread", identity(e)) >> 32
	return time.Duration(fraction*uint64(max(0, seconds))>>32) * time.Second
}

// identity is what a tenant is hashed by: its UID, or its name when there is no such Tenant.
func identity(e Entry) string { return cmp.Or(string(e.UID), e.Tenant) }

func hash(parts ...string) uint64 {
	var text bytes.Buffer
	for _, part := range parts {
		text.WriteString(part)
		text.WriteByte(0)
	}
	sum := sha256.Sum256(text.Bytes())
	return binary.BigEndian.Uint64(sum[:])
}

// scaled returns the value of a number, or of a percentage of a total. A percentage is rounded down, but to no less than
// one unless it is 0%. A value that the API does not accept counts as zero, which is the safest.
func scaled(v *intstr.IntOrString, of int) int {
	if v.Type == intstr.Int {
		return max(0, v.IntValue())
	}
	digits, isPercentage := strings.CutSuffix(v.StrVal, "%")
	percent, err := strconv.ParseUint(digits, 10, 31)
	if !isPercentage || err != nil || percent == 0 {
		return 0
	}
	return max(1, int(percent)*of/100)
}
