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
	drawn := draw(fanOut.UID, all)
	for w, wave := range waves {
		names = append(names, wave.Name)
		if wave.Selector == nil {
			drawn = take(all, drawn, w, len(waves), max(1, scaled(wave.Size, len(all))))
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

// take puts the next n of those drawn that are in no wave yet into wave w, and returns who is left.
func take(all []candidate, drawn []int, w, none, n int) []int {
	for len(drawn) > 0 && n > 0 {
		if entry := &all[drawn[0]].entry; entry.Wave == none {
			entry.Wave = w
			n--
		}
		drawn = drawn[1:]
	}
	return drawn
}

// draw is the order in which waves with a size take tenants: by a hash of the fan-out's and the tenant's UID, the same
// for the same fan-out however often it is computed, and another for the next one, so that it is not always the same
// tenants that go first. Those who are decided already come last: a canary wave of suspended tenants would tell nothing.
func draw(fanOut types.UID, all []candidate) []int {
	type lot struct {
		decided, index int
		hash           uint64
	}
	lots := make([]lot, len(all))
	for i, c := range all {
		lots[i] = lot{index: i, hash: hash(string(fanOut), identity(c.entry))}
		if c.entry.Outcome.Decided() {
			lots[i].decided = 1
		}
	}
	slices.SortFunc(lots, func(a, b lot) int {
		return cmp.Or(a.decided-b.decided, cmp.Compare(a.hash, b.hash), a.index-b.index)
	})
	order := make([]int, len(lots))
	for i, l := range lots {
		order[i] = l.index
	}
	return order
}

// placeInWindow is a tenant's own place in a window: the same in every fan-out, and in proportion when the window is
// another. It may never change.
func placeInWindow(e Entry, seconds int32) time.Duration {
	fraction := hash("spread", identity(e)) >> 32
	return time.Duration(fraction*uint64(max(0, seconds))>>32) * time.Second
}

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

// scaled is what a number or a percentage comes to. A percentage is rounded down, and counts as one if that is zero, but
// 0% is none. What the API does not accept counts as zero, the most cautious there is.
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

func wavesOf(fanOut *v1alpha1.TenantFanOut) []v1alpha1.Wave {
	if fanOut.Spec.Strategy == nil {
		return nil
	}
	return fanOut.Spec.Strategy.Waves
}
