// Package kube is what every controller needs of the API server: reading, writing, events, errors, caches and watches.
package kube

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// FieldManager is the name under which the operator writes objects.
const FieldManager = "tenantry"

// Client is what a controller reads and writes with.
type Client struct {
	// Client reads from the cache and writes to the API server.
	client.Client
	// Live reads from the API server.
	Live client.Reader
	// Events emits events.
	Events events.EventRecorder
}

// NewClient returns the Client of a manager.
func NewClient(mgr manager.Manager) Client {
	return Client{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Events: mgr.GetEventRecorder(FieldManager)}
}

// Find reads an object into obj. It returns nil when there is none.
func Find[T client.Object](ctx context.Context, reader client.Reader, key types.NamespacedName, obj T) (T, error) {
	var none T
	if err := reader.Get(ctx, key, obj); apierrors.IsNotFound(err) {
		return none, nil
	} else if err != nil {
		return none, fmt.Errorf("reading %s %s: %w", KindOf(obj), key, err)
	}
	return obj, nil
}

// DeleteExact deletes the object with the name and the UID of obj, never another one of its name. That it is gone already
// is no error.
func (c Client) DeleteExact(ctx context.Context, obj client.Object, propagation metav1.DeletionPropagation) error {
	err := c.Delete(ctx, obj, client.PropagationPolicy(propagation), client.Preconditions{UID: new(obj.GetUID())})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		c.warnRefused(obj, err, "DeletionRefused", "Delete", "it can't be deleted: ")
		return fmt.Errorf("deleting %s %s: %w", KindOf(obj), KeyOf(obj), err)
	}
	return nil
}

// DeleteSecret deletes a Secret by its name. That it is gone already is no error.
func (c Client) DeleteSecret(ctx context.Context, key types.NamespacedName) error {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	if err := c.Delete(ctx, secret); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting Secret %s: %w", key, err)
	}
	return nil
}

// PatchStatus writes the status of obj if it differs from that of base. The patch carries the resource version of base,
// so that a stale cache can't take back what was written since: the error is a conflict then.
func (c Client) PatchStatus(ctx context.Context, obj, base client.Object) error {
	if equality.Semantic.DeepEqual(obj, base) {
		return nil
	}
	patch := client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})
	if err := c.Status().Patch(ctx, obj, patch, client.FieldOwner(FieldManager)); err != nil {
		c.warnRefused(base, err, "StatusRefused", "WriteStatus", "its status is out of date, because it can't be written: ")
		return fmt.Errorf("writing the status of %s %s: %w", KindOf(obj), KeyOf(obj), err)
	}
	return nil
}

// warnRefused emits an event about an object when the API server has refused a write that no condition can tell of.
func (c Client) warnRefused(obj client.Object, err error, reason, action, message string) {
	switch RefusalOf(err) {
	case RefusalInvalid, RefusalForbidden, RefusalOperator, RefusalQuota:
		c.Warn(obj, reason, action, message+MessageOf(err))
	}
}

// KeyOf is the namespace and name of an object.
func KeyOf(obj client.Object) types.NamespacedName { return client.ObjectKeyFromObject(obj) }

// KindOf is the kind of an object, by its Go type.
func KindOf(obj any) string {
	name := fmt.Sprintf("%T", obj)
	return name[strings.LastIndex(name, ".")+1:]
}

// ControllerUID is the UID of the object of a kind of ours that controls obj. Empty when there is none.
func ControllerUID(obj metav1.Object, kind string) types.UID {
	owner := metav1.GetControllerOfNoCopy(obj)
	if owner != nil && owner.Kind == kind && strings.HasPrefix(owner.APIVersion, v1alpha1.GroupVersion.Group+"/") {
		return owner.UID
	}
	return ""
}
