"""Bonds updated one after the other on a graph: who is connected when, by divide and conquer over the sequence."""

import numba
import numpy as np

from ._clusters import find


@numba.njit(cache=True)
def decide(ends, other, bond, count, vertices, old, new, free, parent, degree, name):
    """Set new[b] for the free bonds b = bond[:count] of a sequence of updates old[b] -> new[b].

    Bond bond[k] joins vertices ends[k] != other[k] < `vertices`. A free bond becomes open (new[b] = 1; it comes as 0)
    if and only if its ends are connected at its turn by the other bonds: new values before it, old ones after it. While
    one half of the sequence is updated the other half stands still: its open bonds are contracted, which leaves a
    problem of half the length and, its loops and leaves removed, usually of much less. The lists grow to 2 * count.
    """
    todo = np.zeros((64, 4), np.int64)  # the halvings under way: first bond, end, vertices, halves done
    depth = 0
    todo[0, 0], todo[0, 1], todo[0, 2], todo[0, 3] = 0, count, vertices, 0
    while depth >= 0:
        start, end, half = todo[depth, 0], todo[depth, 1], todo[depth, 3]
        if half == 2:
            depth -= 1
            continue
        todo[depth, 3] += 1
        for v in range(todo[depth, 2]):
            parent[v] = v
            degree[v] = 0
            name[v] = -1
        middle = (start + end) // 2
        if half == 0:
            contract(ends, other, bond, middle, end, old, parent)
            kept, names = reduce(ends, other, bond, start, middle, end, new, free, parent, degree, name)
        else:
            contract(ends, other, bond, start, middle, new, parent)
            kept, names = reduce(ends, other, bond, middle, end, end, new, free, parent, degree, name)
        undecided = 0
        for k in range(end, end + kept):
            undecided += free[bond[k]]
        if undecided:
            depth += 1
            todo[depth, 0], todo[depth, 1], todo[depth, 2], todo[depth, 3] = end, end + kept, names, 0


@numba.njit(cache=True)
def contract(ends, other, bond, first, final, state, parent):
    """Join the ends of the open ones of bonds [first, final)."""
    for k in range(first, final):
        if state[bond[k]]:
            x, y = find(parent, ends[k]), find(parent, other[k])
            parent[max(x, y)] = min(x, y)


@numba.njit(cache=True)
def reduce(ends, other, bond, first, final, place, new, free, parent, degree, name):
    """Copy bonds [first, final) of the lists to `place`, contracted: number kept, number of their vertices.

    A bond whose ends are connected already is left out, and open if free. So is one with an end that has no other bond:
    no path ever closes a loop through it, hence it is closed if free, and nobody misses it. The vertices of the others
    are renamed from 0. `degree` must be 0 and `name` -1 at the roots of the vertices met.
    """
    stop = place
    for k in range(first, final):
        x, y = find(parent, ends[k]), find(parent, other[k])
        if x == y:
            new[bond[k]] |= free[bond[k]]
        else:
            ends[stop], other[stop], bond[stop] = x, y, bond[k]
            degree[x] += 1
            degree[y] += 1
            stop += 1
    kept, names = place, 0
    for k in range(place, stop):
        x, y = ends[k], other[k]
        if degree[x] == 1 or degree[y] == 1:
            degree[x] -= 1
            degree[y] -= 1
            continue
        if name[x] < 0:
            name[x] = names
            names += 1
        if name[y] < 0:
            name[y] = names
            names += 1
        ends[kept], other[kept], bond[kept] = name[x], name[y], bond[k]
        kept += 1
    return kept - place, names
