package kube

import (
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/internal/conditions"
)

// Note emits an event of type Normal about an object.
func (c Client) Note(obj client.Object, reason, action, message string) {
	c.Event(obj, true, reason, action, message)
}

// Warn emits an event of type Warning about an object.
func (c Client) Warn(obj client.Object, reason, action, message string) {
	c.Event(obj, false, reason, action, message)
}

// maxNote is how many bytes the API accepts of an event's note.
const maxNote = 1024

// Event emits an event about an object: of type Normal when what happened is good, and else of type Warning. The message is cut
// to what the API accepts: one event that is too long would be lost, and logged at full length.
func (c Client) Event(obj client.Object, good bool, reason, action, message string) {
	eventType := corev1.EventTypeWarning
	if good {
		eventType = corev1.EventTypeNormal
	}
	c.Events.Eventf(obj, nil, eventType, reason, action, "%s", conditions.Cut(message, maxNote))
}
