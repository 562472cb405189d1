package fanout

import (
	"encoding/binary"
	"errors"
	"hash/fnv"

	"k8s.io/apimachinery/pkg/types"
)

const (
	// identityBytes is how many bytes of the hash of a TenantJob's UID a ledger has. The API server picks UIDs at random, so a
	// person who creates another TenantJob hits the same identity once in 2^48 times.
	identityBytes = 6
	// maxIdentities is how many identities a ledger stores, so that it stays within the size of a ConfigMap with any number
	// of tenants. It needs those of the children that have no outcome.
	maxIdentities = 100_000
)

// childIdentity stands for the UID of a TenantJob. Zero means that the UID is unknown.
type childIdentity uint64

func identityOf(uid types.UID) childIdentity {
	if uid == "" {
		return 0
	}
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(uid)) // It returns no error.
	return childIdentity(max(1, sum.Sum64()>>(64-8*identityBytes)))
}

// setCreated notes that the child of the tenant at an index of the plan was observed, and which TenantJob it is.
func (l *Ledger) setCreated(i int, uid types.UID) {
	l.setMark(i, markCreated)
	if l.identities[i] == 0 {
		l.identities[i] = identityOf(uid)
	}
}

// IsChild says whether a TenantJob with the name of the fan-out is the child of the tenant at an index of the plan, as far as
// the ledger knows: it is the one that was observed after the creation. Every TenantJob may be the child while none was
// observed, and also when a version of Tenantry without identities has written the ledger.
func (l *Ledger) IsChild(i int, uid types.UID) bool {
	return l.identities[i] == 0 || l.identities[i] == identityOf(uid)
}

// Knows says whether a TenantJob is known to be the child of the tenant at an index of the plan, whatever its owner references
// say: anybody who may change the TenantJob can remove these.
func (l *Ledger) Knows(i int, uid types.UID) bool {
	return l.identities[i] != 0 && l.identities[i] == identityOf(uid)
}

// encodeIdentities returns those of the children that were created and have no outcome, in the order of the plan. Zeros at the
// end are left out.
func (l *Ledger) encodeIdentities() []byte {
	var data []byte
	used := 0
	for i, mark := range l.marks {
		if mark != markCreated || len(data) >= maxIdentities*identityBytes {
			continue
		}
		var number [8]byte
		binary.BigEndian.PutUint64(number[:], uint64(l.identities[i]))
		data = append(data, number[8-identityBytes:]...)
		if l.identities[i] != 0 {
			used = len(data)
		}
	}
	return data[:used]
}

// decodeIdentities reads what encodeIdentities has written. The marks must have been read before.
func (l *Ledger) decodeIdentities(data []byte) error {
	for i, mark := range l.marks {
		if len(data) < identityBytes {
			break
		}
		if mark == markCreated {
			var number [8]byte
			copy(number[8-identityBytes:], data)
			l.identities[i], data = childIdentity(binary.BigEndian.Uint64(number[:])), data[identityBytes:]
		}
	}
	if len(data) > 0 {
		return errors.New("there are more than TenantJobs without an outcome")
	}
	return nil
}
