package fanout

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

const (
	// partSize is how many bytes of a plan a ConfigMap holds. The API server accepts 1 MiB with everything in it.
	partSize = 1_000_000
	// maxParts is how many ConfigMaps of one plan are read at most.
	maxParts = 64
)

// Keys of the ConfigMaps that hold a plan.
const (
	keyPlan   = "plan.gz" // a part of the packed plan
	keyParts  = "parts"   // how many ConfigMaps there are
	keyDigest = "digest"  // SHA-256 of the packed plan, in hexadecimal
)

// PlanName is the name of the ConfigMap that seals a fan-out's plan.
func PlanName(fanOut types.UID) string { return "fan-out-" + string(fanOut) + "-plan" }

// LedgerName is the name of the ConfigMap that holds a fan-out's ledger.
func LedgerName(fanOut types.UID) string { return "fan-out-" + string(fanOut) + "-ledger" }

// ConfigMaps returns the objects in a namespace that hold the plan, to be created in this order. Creating the last one
// seals the plan: a controller that finds it there already must use the stored plan. There are others only when the plan
// does not fit into one. Their names contain the digest of the plan, so that they never belong to the plan of another
// leader.
func (p *Plan) ConfigMaps(fanOut *v1alpha1.TenantFanOut, namespace string) ([]*corev1.ConfigMap, error) {
	packed, err := p.pack()
	if err != nil {
		return nil, err
	}
	digest := digestOf(packed)
	chunks := slices.Collect(slices.Chunk(packed, partSize))
	objects := make([]*corev1.ConfigMap, 0, len(chunks))
	for i, chunk := range chunks[1:] {
		objects = append(objects, sealed(fanOut, namespace, partName(PlanName(p.FanOut), digest, i+1), chunk))
	}
	head := sealed(fanOut, namespace, PlanName(p.FanOut), chunks[0])
	head.Data = map[string]string{keyParts: strconv.Itoa(len(chunks)), keyDigest: digest}
	return append(objects, head), nil
}

// PartNames returns the names of the ConfigMaps that hold the rest of the plan of which head, the one named PlanName, has
// the first part. The error says what is damaged in head.
func PartNames(head *corev1.ConfigMap) ([]string, error) {
	parts, err := strconv.Atoi(head.Data[keyParts])
	if err != nil || parts < 1 || parts > maxParts {
		return nil, fmt.Errorf("reading ConfigMap %s: %s is %q", head.Name, keyParts, head.Data[keyParts])
	}
	var names []string
	for i := 1; i < parts; i++ {
		names = append(names, partName(head.Name, head.Data[keyDigest], i))
	}
	return names, nil
}

// DecodePlan reads a plan from its ConfigMaps. The parts are those that PartNames returns, in that order. The error says
// what is damaged, or that a later version of Tenantry wrote the plan.
func DecodePlan(head *corev1.ConfigMap, parts ...*corev1.ConfigMap) (*Plan, error) {
	names, err := PartNames(head)
	if err != nil {
		return nil, err
	}
	if len(parts) != len(names) {
		return nil, fmt.Errorf("reading ConfigMap %s: the number of parts is %d instead of %d", head.Name, len(parts), len(names))
	}
	packed := bytes.Clone(head.BinaryData[keyPlan])
	for i, part := range parts {
		if part.Name != names[i] {
			return nil, fmt.Errorf("reading ConfigMap %s: part %s instead of %s", head.Name, part.Name, names[i])
		}
		packed = append(packed, part.BinaryData[keyPlan]...)
	}
	if digestOf(packed) != head.Data[keyDigest] {
		return nil, fmt.Errorf("reading ConfigMap %s: its content does not have its digest", head.Name)
	}
	p, err := unpack(packed)
	if err != nil {
		return nil, fmt.Errorf("reading ConfigMap %s: %w", head.Name, err)
	}
	if head.Name != PlanName(p.FanOut) {
		return nil, fmt.Errorf("reading ConfigMap %s: it holds the plan of %s", head.Name, p.FanOut)
	}
	return p, nil
}

// sealed returns an immutable ConfigMap with a part of the plan.
func sealed(fanOut *v1alpha1.TenantFanOut, namespace, name string, chunk []byte) *corev1.ConfigMap {
	cm := &corev1.ConfigMap{ObjectMeta: objectMeta(fanOut, namespace, name), BinaryData: map[string][]byte{keyPlan: chunk}}
	cm.Immutable = new(true)
	return cm
}

func objectMeta(fanOut *v1alpha1.TenantFanOut, namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace,
		Name:      name,
		Labels:    map[string]string{v1alpha1.LabelFanOut: fanOut.Name},
		OwnerReferences: []metav1.OwnerReference{
			*metav1.NewControllerRef(fanOut, v1alpha1.GroupVersion.WithKind("TenantFanOut")),
		},
	}
}

func partName(head, digest string, i int) string {
	return fmt.Sprintf("%s-%.16s-%d", head, digest, i)
}

func digestOf(packed []byte) string {
	sum := sha256.Sum256(packed)
	return hex.EncodeToString(sum[:])
}
