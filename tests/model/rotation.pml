/* The rotation of one agent's key, as rotate-keys.yml and the nodes do it. Checked exhaustively by Spin: test_rotation_model.py.
 *
 * One agent signs, PEERS others hold copies of its ring. Rings of different agents share nothing, so that two nodes which
 * rotate at once are two instances of this, side by side. What is unbounded here is so in life: runs of the play, crashes of
 * it and of every node at every step, orders that are lost or not confirmed, messages and answers that are late or lost, and
 * somebody else's site.yml that copies a ring which it read long ago.
 *
 * What must hold:
 *   - No honest message and no honest answer is refused while its sender waits for it. (Given up, it may be: it is sent again,
 *     signed afresh.) Where the agent's key is leaked, the old key is refused at once, and the new one by nobody who was
 *     reported as done.
 *   - A peer that was reported as done never takes the old key again, whatever happens afterwards.
 *
 * Each NO_... takes one guard out; each must have a counterexample. */

#ifndef PEERS
#define PEERS 2
#endif
#ifndef PLAYS
#define PLAYS 1
#endif
#ifndef KEYS
#define KEYS 2
#endif
#define OLD 0
#define NEW 1

/* States of a key in a ring; UNKNOWN: the ring does not name it. */
#define UNKNOWN 0
#define ACCEPTED 1
#define ACTIVE 2
#define RETIRED 3
#define REVOKED 4
#define LIVE(state) (state == ACCEPTED || state == ACTIVE)

typedef Ring { byte key[KEYS] }

/* The agent's ring and its peers' copies: on the disk, and in the memory of the running node. */
Ring own_file, own;
Ring copy_file[PEERS], copy[PEERS];
/* In flight: 0 nothing, else 1 + the key that signed it. */
byte request[PEERS], answer[PEERS];
/* A peer's request that waits for the agent's answer, and which keys were accepted when it went out, a bit each. */
bool asked[PEERS];
byte taken[PEERS];
/* What a play said at its end: this peer is done. */
bool told[PEERS];
/* Scratch within one step: no part of a state. */
hidden byte i, j, m;

#ifdef NO_DURABLE
#define TRUTH(file, memory) memory
#else
#define TRUTH(file, memory) file
#endif

inline assign(to, from) {
    j = 0;
    do
    :: j < KEYS -> to.key[j] = from.key[j]; j++
    :: else -> break
    od;
    j = 0
}

#if KEYS == 3
#define SAME(a, b) (a.key[0] == b.key[0] && a.key[1] == b.key[1] && a.key[2] == b.key[2])
#else
#define SAME(a, b) (a.key[0] == b.key[0] && a.key[1] == b.key[1])
#endif

/* Which key signs, 1 + its number, and the newest that is named at all. */
#if KEYS == 3
#define SIGNING (own.key[2] == ACTIVE -> 3 : (own.key[1] == ACTIVE -> 2 : (own.key[0] == ACTIVE -> 1 : 0)))
#define NEWEST(ring) (ring.key[2] != UNKNOWN -> 2 : (ring.key[1] != UNKNOWN -> 1 : 0))
#define BITS(ring) (LIVE(ring.key[0]) + 2 * LIVE(ring.key[1]) + 4 * LIVE(ring.key[2]))
#else
#define SIGNING (own.key[1] == ACTIVE -> 2 : (own.key[0] == ACTIVE -> 1 : 0))
#define NEWEST(ring) (ring.key[1] != UNKNOWN -> 1 : 0)
#define BITS(ring) (LIVE(ring.key[0]) + 2 * LIVE(ring.key[1]))
#endif

/* A request of the agent's that the newest key did not sign is in flight. */
#if PEERS == 2
#define OLDER_IN_FLIGHT ((request[0] && request[0] <= NEWEST(own)) || (request[1] && request[1] <= NEWEST(own)))
#define ALL(list) (list[0] && list[1])
#define FORBIDDEN ((told[0] && LIVE(copy[0].key[OLD])) || (told[1] && LIVE(copy[1].key[OLD])))
#else
#define OLDER_IN_FLIGHT (request[0] && request[0] <= NEWEST(own))
#define ALL(list) (list[0])
#define FORBIDDEN (told[0] && LIVE(copy[0].key[OLD]))
#endif

/* core/keys.py: prepare, use, retire, revoke, merge. With TELL each is printed, for the test that replays them against the code. */

#ifdef TELL
#define TELLING(what) printf(what);
#define WITH(ring) printf(" %d%d", ring.key[OLD], ring.key[NEW]);
#define GIVES(ring) ; printf(" %d%d\n", ring.key[OLD], ring.key[NEW])
#else
#define TELLING(what)
#define WITH(ring)
#define GIVES(ring)
#endif

inline prepare(ring) {
    TELLING("prepare") WITH(ring)
    if
    :: ring.key[NEW] == UNKNOWN -> ring.key[NEW] = ACCEPTED
#ifdef NO_KEPT
    /* One that is newer than the active one and pending is not kept: another is made. */
    :: ring.key[NEW] == ACCEPTED && ring.key[2] == UNKNOWN -> ring.key[2] = ACCEPTED
#endif
    :: else
    fi
    GIVES(ring)
}

inline use(ring) {
    TELLING("use") WITH(ring)
    i = NEWEST(ring);
    if
    :: ring.key[i] == ACCEPTED ->
        j = 0;
        do
        :: j < KEYS ->
            if
#ifdef NO_OVERLAP
            :: ring.key[j] == ACTIVE -> ring.key[j] = RETIRED
#else
            :: ring.key[j] == ACTIVE -> ring.key[j] = ACCEPTED
#endif
            :: else
            fi;
            j++
        :: else -> break
        od;
        ring.key[i] = ACTIVE
    :: else
    fi
    GIVES(ring)
}

inline retire(ring) {
    TELLING("retire") WITH(ring)
    i = NEWEST(ring);
    do
    :: i > 0 && ring.key[i] != ACTIVE -> i--
    :: else -> break
    od;
    j = 0;
    do
    :: j < i ->
        if
        :: ring.key[j] == ACCEPTED -> ring.key[j] = RETIRED
        :: else
        fi;
        j++
    :: else -> break
    od;
    j = 0
    GIVES(ring)
}

inline revoke(ring) {
    TELLING("revoke") WITH(ring)
    ring.key[OLD] = REVOKED
    GIVES(ring)
}

inline merge(ring, incoming) {
    TELLING("merge") WITH(ring) WITH(incoming)
    i = 0;
    do
    :: i < KEYS ->
        if
#ifdef NO_MERGE_KEEPS_DEAD
        :: incoming.key[i] != UNKNOWN -> ring.key[i] = incoming.key[i]
#else
        :: ring.key[i] == REVOKED
        :: ring.key[i] == RETIRED && incoming.key[i] == REVOKED -> ring.key[i] = REVOKED
        :: ring.key[i] == RETIRED && incoming.key[i] != REVOKED
        :: !(ring.key[i] == RETIRED || ring.key[i] == REVOKED) && incoming.key[i] != UNKNOWN -> ring.key[i] = incoming.key[i]
#endif
        :: incoming.key[i] == UNKNOWN && LIVE(ring.key[i]) ->
#ifndef NO_MERGE_KEEPS_NEWER
            if
            :: i > NEWEST(incoming)
            :: else -> ring.key[i] = RETIRED
            fi
#else
            ring.key[i] = RETIRED
#endif
        :: incoming.key[i] == UNKNOWN && ring.key[i] == UNKNOWN
        fi;
        i++
    :: else -> break
    od;
    i = 0
    GIVES(ring)
}

/* A refusal is a defect, unless the key is leaked and this peer was not reported as done. */
inline refused(n, key) {
#ifdef LEAK
    assert(key == OLD || !told[n])
#else
    assert(false)
#endif
}

/* An answer counts when its key is accepted now, or was when the request went out and is not revoked. */
#define NOW(n, k) LIVE(copy[n].key[k])
#define WHEN_ASKED(n, k) (((taken[n] >> k) & 1) && copy[n].key[k] != REVOKED)
#if defined(NO_NOW)
#define BELIEVED(n, k) WHEN_ASKED(n, k)
#elif defined(NO_WHEN_ASKED)
#define BELIEVED(n, k) NOW(n, k)
#else
#define BELIEVED(n, k) (NOW(n, k) || WHEN_ASKED(n, k))
#endif

/* What the agent says. */
#define SAYS(n) \
    :: d_step { !request[n] && SIGNING -> request[n] = SIGNING } \
    :: d_step { asked[n] && !answer[n] && SIGNING -> answer[n] = SIGNING }

proctype Agent() {
end:
    do
    SAYS(0)
#if PEERS == 2
    SAYS(1)
#endif
    /* kill -9, and the start after it: nobody waits any more for what was in flight. */
    :: d_step {
        m = 0;
        do
        :: m < PEERS -> request[m] = 0; answer[m] = 0; m++
        :: else -> break
        od;
        assign(own, own_file)
    }
#ifdef NO_DURABLE
    :: d_step { !SAME(own, own_file) -> assign(own_file, own) }
#else
#ifndef NO_LIVE
    :: d_step { !SAME(own, own_file) -> assign(own, own_file) }
#endif
#endif
    od
}

proctype Peer(byte n) {
end:
    do
    :: d_step {
        request[n] -> m = request[n] - 1; request[n] = 0;
        if
        :: LIVE(copy[n].key[m])
        :: else -> refused(n, m)
        fi
    }
    /* Lost, or so late that the agent has given it up. */
    :: d_step { request[n] -> request[n] = 0 }
#ifndef ONE_WAY
    :: d_step { !asked[n] -> asked[n] = true; taken[n] = BITS(copy[n]) }
#endif
    :: d_step {
        answer[n] -> m = answer[n] - 1;
        if
        :: BELIEVED(n, m)
        :: else -> refused(n, m)
        fi;
        answer[n] = 0; asked[n] = false; taken[n] = 0
    }
    /* Given up. */
    :: d_step { asked[n] -> asked[n] = false; answer[n] = 0; taken[n] = 0 }
    :: d_step { asked[n] = false; answer[n] = 0; taken[n] = 0; assign(copy[n], copy_file[n]) }
#ifdef NO_DURABLE
    :: d_step { !SAME(copy[n], copy_file[n]) -> assign(copy_file[n], copy[n]) }
#else
#ifndef NO_LIVE
    :: d_step { !SAME(copy[n], copy_file[n]) -> assign(copy[n], copy_file[n]) }
#endif
#endif
    od
}

/* Wait for a node's answer: it comes when the file and the running node agree (or it does not come, or the play is ended). */
#if defined(NO_LIVE) || defined(NO_DURABLE)
#define CONFIRMED(file, memory) true
#else
#define CONFIRMED(file, memory) SAME(file, memory)
#endif

inline confirmed(file, memory, well) {
    if
    :: CONFIRMED(file, memory) -> well = true
    :: true -> well = false
    :: true -> goto again
    fi
}

proctype Play() {
    Ring text;
    byte n;
    bool well, finished;
    bool held[PEERS];
again:
    n = 0;
    d_step {
        well = false; finished = false;
        do
        :: n < PEERS -> held[n] = false; n++
        :: else -> break
        od;
        n = 0;
        do
        :: n < KEYS -> text.key[n] = UNKNOWN; n++
        :: else -> break
        od;
        n = 0
    }
#ifdef LEAK
    do
    :: n < PEERS ->
        if
        :: d_step { revoke(TRUTH(copy_file[n], copy[n])) }
        :: true
        fi;
        n++
    :: else -> break
    od;
    n = 0;
    if
    :: d_step { revoke(TRUTH(own_file, own)) }
    :: true
    fi;
#endif
    if
    :: d_step { prepare(TRUTH(own_file, own)) }
    :: true -> goto again
    fi;
    confirmed(own_file, own, well);
    if
    :: !well -> goto again
    :: else
    fi;
    d_step { assign(text, TRUTH(own_file, own)) }
    do
    :: n < PEERS ->
        if
        :: d_step { merge(TRUTH(copy_file[n], copy[n]), text) };
            confirmed(copy_file[n], copy[n], held[n])
        :: true
        fi;
        n++
    :: else -> break
    od;
    n = 0;
#if !defined(LEAK) && !defined(NO_ALL_HOLD)
    if
    :: ALL(held)
    :: else -> goto again
    fi;
#endif
#ifdef NO_WAIT_AGAIN
    /* Found to be used already by a run that was ended, it is not waited for. */
    if
    :: own.key[NEW] == ACTIVE -> goto used
    :: else
    fi;
#endif
    d_step { use(TRUTH(own_file, own)) }
    confirmed(own_file, own, well);
    if
    :: !well -> goto again
    :: else
    fi;
#ifndef NO_WAIT
    if
    :: !OLDER_IN_FLIGHT
    :: true -> goto again
    fi;
#endif
used:
    skip;
    d_step { retire(TRUTH(own_file, own)) }
    confirmed(own_file, own, well);
    if
    :: !well -> goto again
    :: else
    fi;
    d_step { assign(text, TRUTH(own_file, own)) }
    do
    :: n < PEERS ->
        if
        :: d_step { merge(TRUTH(copy_file[n], copy[n]), text) };
            confirmed(copy_file[n], copy[n], finished);
            if
            :: finished -> told[n] = true
            :: else
            fi
        :: true
        fi;
        n++
    :: else -> break
    od;
    n = 0;
    goto again
}

/* site.yml in another window, or what is left of a run that was ended: it brings a ring that was read at any time before. */
#define BRINGS(n) :: d_step { merge(TRUTH(copy_file[n], copy[n]), text) }

proctype Stale() {
    Ring text;
end:
    do
    :: d_step { assign(text, TRUTH(own_file, own)) };
        do
        BRINGS(0)
#if PEERS == 2
        BRINGS(1)
#endif
        :: break
        od
    od
}

/* Waits for what must never be. */
proctype Watch() {
end:
    atomic {
        FORBIDDEN -> assert(false)
    }
}

init {
    atomic {
        own.key[OLD] = ACTIVE; own_file.key[OLD] = ACTIVE;
        do
        :: m < PEERS -> copy[m].key[OLD] = ACTIVE; copy_file[m].key[OLD] = ACTIVE; run Peer(m); m++
        :: else -> break
        od;
        m = 0;
        do
        :: m < PLAYS -> run Play(); m++
        :: else -> break
        od;
#ifndef QUIET
        run Stale();
#endif
        run Agent(); run Watch()
    }
}
