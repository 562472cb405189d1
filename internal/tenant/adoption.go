package tenant

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// fieldManager is kube.FieldManager, the name under which the operator writes objects.
const fieldManager = "tenantry"

// ownPrefix is the prefix of the labels and annotations that only the operator sets.
const ownPrefix = "tenantry.dev/"

// Before is what a namespace had before it was adopted. It is stored in the annotation tenantry.dev/before-adoption.
type Before struct {
	// Labels are the values of the labels that the operator has taken over. Nil means that the namespace had no such label.
	Labels map[string]*string `json:"labels,omitempty"`
	// Objects are the UIDs of the objects that had a name of the operator's, by Key. They stay somebody else's, whatever their
	// labels say.
	Objects map[string]types.UID `json:"objects,omitempty"`
}

// BeforeOf reads what is stored on a namespace. It is empty when nothing is, or when somebody has made it unreadable. Who may
// write the namespace could store anything, so what is no label, or is the operator's own, is left out.
func BeforeOf(namespace metav1.Object) Before {
	var b Before
	if err := json.Unmarshal([]byte(namespace.GetAnnotations()[v1alpha1.AnnotationBeforeAdoption]), &b); err != nil {
		return Before{}
	}
	maps.DeleteFunc(b.Labels, func(key string, value *string) bool {
		return strings.HasPrefix(key, ownPrefix) || len(validation.IsQualifiedName(key)) > 0 ||
			value != nil && len(validation.IsValidLabelValue(*value)) > 0
	})
	return b
}

func (b Before) encode() string {
	data, err := json.Marshal(b)
	if err != nil {
		panic(fmt.Sprintf("encoding strings: %v", err))
	}
	return string(data)
}

// Adoption is what is known about a namespace that existed before the operator took it over.
type Adoption struct {
	// Before is what is stored on the namespace.
	Before Before
	// Labels are those that the namespace has now.
	Labels map[string]string
	// Begins means that the namespace is not this Tenant's yet, so that all its labels are somebody else's.
	Begins bool
}

// AdoptionOf returns what is known about the adoption of a namespace. It is nil when the namespace was not adopted.
func AdoptionOf(t *v1alpha1.Tenant, namespace *metav1.PartialObjectMetadata, claim Claim) *Adoption {
	if !IsAdopted(t, namespace) {
		return nil
	}
	return &Adoption{Before: BeforeOf(namespace), Labels: namespace.Labels, Begins: claim == Adoptable}
}

// take returns what was there before, with the values of the desired labels that the operator is about to take over. What is
// stored never changes, so that a label that somebody changes later is not mistaken for what was there.
func (a *Adoption) take(desired map[string]string) Before {
	b := Before{Labels: maps.Clone(a.Before.Labels), Objects: maps.Clone(a.Before.Objects)}
	for key, value := range desired {
		if _, stored := b.Labels[key]; stored || strings.HasPrefix(key, ownPrefix) {
			continue
		}
		if b.Labels == nil {
			b.Labels = map[string]*string{}
		}
		b.Labels[key] = nil
		// A label of a namespace that was adopted earlier is the operator's own if it has the desired value.
		if now, has := a.Labels[key]; has && (a.Begins || now != value) {
			b.Labels[key] = &now
		}
	}
	return b
}

// adopt adds to what is desired what an adopted namespace needs: the record of what was there before and, of the labels that
// the operator had taken over and that the Tenant no longer wants, the values from before.
func (d *Desired) adopt(a *Adoption) {
	before := a.take(d.Labels)
	for key, value := range before.Labels {
		if _, desired := d.Labels[key]; !desired && value != nil {
			d.Labels[key] = *value
		}
	}
	d.Annotations[v1alpha1.AnnotationAdopted] = "true"
	d.setBefore(before)
}

func (d *Desired) setBefore(b Before) {
	d.before = &b
	d.Annotations[v1alpha1.AnnotationBeforeAdoption] = b.encode()
}

// RememberObjects adds to what was there before the objects of a namespace that is about to be adopted, as far as they have a
// name of the operator's. The namespace of an earlier Tenant may still have objects that the operator made.
func (d *Desired) RememberObjects(namespace metav1.Object, objects []Object) {
	if d.before == nil {
		return
	}
	before := *d.before
	before.Objects = maps.Clone(before.Objects)
	wasTenants := namespace.GetAnnotations()[v1alpha1.AnnotationTenantUID] != ""
	for _, obj := range objects {
		if !reserved[Key(obj)] || wasTenants && isManaged(obj) {
			continue
		}
		if before.Objects == nil {
			before.Objects = map[string]types.UID{}
		}
		before.Objects[Key(obj)] = obj.GetUID()
	}
	d.setBefore(before)
}

// reserved has the keys of all objects that the operator keeps in the namespace of some tenant.
var reserved = map[string]bool{
	"ServiceAccount " + v1alpha1.RunnerServiceAccount: true,
	"ResourceQuota " + NameQuota:                      true,
	"LimitRange " + NameLimits:                        true,
	"NetworkPolicy " + NameDenyAll:                    true,
	"NetworkPolicy " + NameEgress:                     true,
	"RoleBinding " + NameViewers:                      true,
	"RoleBinding " + NameDispatchers:                  true,
	"RoleBinding " + NameOperator:                     true,
}

// Key is the kind and the name of an object.
func Key(obj Object) string {
	kind := fmt.Sprintf("%T", obj)
	return kind[strings.LastIndex(kind, ".")+1:] + " " + obj.GetName()
}

// IsTaken says whether an object with a name of the operator's is somebody else's, so that the operator neither changes nor
// deletes it. A namespace that the operator created has no such objects. In an adopted one the label alone proves nothing,
// because everybody can set it: the object must not have been there before. And an object of the operator's is still its own
// when somebody has removed the label.
func (d *Desired) IsTaken(obj Object) bool {
	if d.before == nil {
		return false
	}
	if uid, was := d.before.Objects[Key(obj)]; was && uid == obj.GetUID() {
		return true
	}
	return !isManaged(obj) && !slices.ContainsFunc(obj.GetManagedFields(), func(f metav1.ManagedFieldsEntry) bool {
		return f.Manager == fieldManager
	})
}

// Owns says whether the operator deletes an object when it is no longer desired.
func (d *Desired) Owns(obj Object) bool {
	if d.before == nil {
		return isManaged(obj) && metav1.GetControllerOfNoCopy(obj) == nil
	}
	return reserved[Key(obj)] && !d.IsTaken(obj)
}

func isManaged(obj metav1.Object) bool { return obj.GetLabels()[v1alpha1.LabelManaged] == "true" }

// Released returns the metadata that a namespace has when it is released: its labels are as they were before the adoption, and
// nothing on it is the operator's.
func Released(namespace *metav1.PartialObjectMetadata) *metav1.PartialObjectMetadata {
	released := namespace.DeepCopy()
	var applied map[string]bool
	others := map[string]bool{}
	released.ManagedFields = nil
	for _, entry := range namespace.ManagedFields {
		if entry.Manager == fieldManager && entry.Operation == metav1.ManagedFieldsOperationApply && entry.Subresource == "" {
			applied = labelsIn(entry)
			continue
		}
		// Without the operator's entry a later adoption does not remove what is restored now.
		released.ManagedFields = append(released.ManagedFields, entry)
		maps.Copy(others, labelsIn(entry))
	}
	maps.DeleteFunc(released.Labels, func(key, _ string) bool {
		return strings.HasPrefix(key, ownPrefix) || applied[key] && !others[key]
	})
	for key, value := range BeforeOf(namespace).Labels {
		if value != nil {
			metav1.SetMetaDataLabel(&released.ObjectMeta, key, *value)
		}
	}
	maps.DeleteFunc(released.Annotations, func(key, _ string) bool {
		return strings.HasPrefix(key, ownPrefix) && key != v1alpha1.AnnotationAdoptBy
	})
	return released
}

// labelsIn returns the keys of the labels that an entry of the managed fields owns.
func labelsIn(entry metav1.ManagedFieldsEntry) map[string]bool {
	var fields struct {
		Metadata struct {
			Labels map[string]any `json:"f:labels"`
		} `json:"f:metadata"`
	}
	if entry.FieldsV1 == nil || json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields) != nil {
		return nil
	}
	keys := map[string]bool{}
	for field := range fields.Metadata.Labels {
		if key, isLabel := strings.CutPrefix(field, "f:"); isLabel {
			keys[key] = true
		}
	}
	return keys
}
