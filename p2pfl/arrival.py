"""What a node does before it trains: it makes acquaintance, and starts from where the others are."""

from __future__ import annotations

import logging

import numpy as np
import trio

from p2pfl.clock import Clock
from p2pfl.config import NodeConfig
from p2pfl.courier import Courier
from p2pfl.events import Joined, Observe
from p2pfl.gossip.messages import Model
from p2pfl.gossip.protocol import Gossip
from p2pfl.news import News

log = logging.getLogger(__name__)

# A node asks this many random peers how far they are before it starts, and joins those that are ahead.
JOIN_PEERS = 5
# Longest time for that, in seconds: a peer that does not answer does not keep the node from training.
JOIN_DEADLINE = 5.0
# To fetch their models it waits longer by a model's size at this rate, in bytes a second.
JOIN_RATE = 5_000_000
# While a node waits for company it asks one of its peers for news this often, in seconds.
REACQUAINT = 1.0


async def meet(
    config: NodeConfig, gossip: Gossip, courier: Courier, clock: Clock, rng: np.random.Generator, news: News
) -> None:
    """Make acquaintance: say hello to the known addresses, and wait for --min-peers if asked to."""
    view, wanted = gossip.view, config.min_peers
    if not view.contacts() and not wanted:
        return
    with clock.deadline(config.wait if wanted else JOIN_DEADLINE):
        await courier.greet(None if wanted else JOIN_PEERS, rng)
        while len(view.live()) < wanted:
            heard = news.next()
            await courier.greet(None, rng)
            if len(view.live()) >= wanted:
                break
            again, retry = clock.now() + REACQUAINT, view.next_retry()
            await news.until(heard, again if retry is None else min(again, retry))
            if not heard.is_set():
                await courier.ask_around()
    if len(view.live()) < wanted:
        log.warning("peers=%d wanted=%d training without the others", len(view.live()), wanted)


async def join(
    gossip: Gossip, courier: Courier, clock: Clock, rng: np.random.Generator, observe: Observe
) -> None:
    """If peers have trained already, start from the median of some of them."""
    ahead = [contact for contact in gossip.view.live() if contact.round > 0]
    if not ahead:
        return
    chosen = [ahead[i] for i in rng.permutation(len(ahead))[:JOIN_PEERS]]
    models: list[Model] = []
    with clock.deadline(JOIN_DEADLINE + 4 * gossip.layout.size / JOIN_RATE):
        async with trio.open_nursery() as nursery:
            for contact in chosen:
                nursery.start_soon(courier.fetch, contact, models)
    if gossip.join(models):
        observe(Joined(tuple(model.head.sender.id for model in models), gossip.age))
