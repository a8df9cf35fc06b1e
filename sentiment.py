"""Problem 6: sentiment classification. Five models, from a bag of words to an LSTM, tell good reviews from bad ones."""

import copy
import math
import time
from collections import Counter
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from data import DataError, results

PAD, UNKNOWN = 0, 1  # the first two numbers of a vocabulary: no word, and every word that is not in it


# ---- data


def make_vocabulary(sentences, least=2):
    """The words seen `least` times or more, commonest first, behind "_pad_" and "_unk_": a list of strings."""
    counts = Counter(word for sentence in sentences for word in sentence)
    return ["_pad_", "_unk_"] + [word for word, count in counts.most_common() if count >= least]


class Encoded:
    """Sentences as numbers of a vocabulary, one after the other in one tensor; `batch` cuts out and pads."""

    def __init__(self, sentences, vocabulary, labels=None):
        index = {word: k for k, word in enumerate(vocabulary)}
        self.words = torch.tensor([index.get(word, UNKNOWN) for sentence in sentences for word in sentence])
        self.lengths = torch.tensor([len(sentence) for sentence in sentences])
        self.starts = self.lengths.cumsum(0) - self.lengths
        self.labels = torch.zeros(len(sentences)) if labels is None else torch.tensor(labels, dtype=torch.float32)

    def __len__(self):
        return len(self.lengths)

    def batch(self, rows, device="cpu"):
        lengths = self.lengths[rows]
        steps = torch.arange(int(lengths.max()))
        there = steps < lengths[:, None]
        words = self.words[(self.starts[rows][:, None] + steps) * there].where(there, PAD)
        return words.to(device), lengths, self.labels[rows].to(device)


def sorted_batches(lengths, size, shuffle=False, most=1 << 16):
    if not shuffle:
        order, pool = torch.arange(len(lengths)), len(lengths)
    else:
        order, pool = torch.randperm(len(lengths)), 100 * size
    cut = []
    for part in order.split(pool):
        part = part[lengths[part].argsort(descending=True, stable=True)]
        while len(part):
            count = max(1, min(size, most // int(lengths[part[0]])))
            cut.append(part[:count])
            part = part[count:]
    return [cut[k] for k in torch.randperm(len(cut))] if shuffle else cut


class WordDropout(nn.Module):
    def __init__(self, share):
        super().__init__()
        self.share = share

    def forward(self, words):
        if not self.training or not self.share:
            return words
        dropped = (torch.rand(words.shape, device=words.device) < self.share) & (words != PAD)
        return words.masked_fill(dropped, UNKNOWN)


class BagOfWords(nn.Module):
    def __init__(self, vocabulary_size, word_dropout=0.0):
        super().__init__()
        self.drop = WordDropout(word_dropout)
        self.linear = nn.Linear(vocabulary_size, 1)
        nn.init.zeros_(self.linear.weight)

    def forward(self, words, lengths):
        words = self.drop(words).sort(1).values
        again = F.pad(words[:, 1:] == words[:, :-1], (1, 0))
        words = words.masked_fill(again, PAD)
        column = self.linear.weight.view(-1, 1)
        return F.embedding_bag(words, column, mode="sum", padding_idx=PAD)[:, 0] + self.linear.bias


def init_embedding(V, D, vectors, scale):
    e = nn.Embedding(V, D, padding_idx=PAD)
    nn.init.normal_(e.weight, std=scale)
    with torch.no_grad():
        e.weight[PAD] = 0
        if vectors is not None:
            found = torch.from_numpy(vectors.found)
            e.weight[found] = torch.from_numpy(vectors.vectors)[found]
    return e


class AverageEmbeddings(nn.Module):
    def __init__(self, V, D=50, vectors=None, scale=0.1, word_dropout=0.0, dropout=0.0, vscale=1.0):
        super().__init__()
        self.word_dropout, self.dropout = WordDropout(word_dropout), nn.Dropout(dropout)
        self.embedding = init_embedding(V, D, vectors, scale)
        with torch.no_grad(): self.embedding.weight.mul_(vscale)
        self.linear = nn.Linear(D, 1)

    def forward(self, words, lengths):
        words = self.word_dropout(words)
        mean = F.embedding_bag(words, self.embedding.weight, mode="mean", padding_idx=PAD)
        return self.linear(self.dropout(mean))[:, 0]


class Recurrent(nn.Module):
    def __init__(self, V, cell, H, D=50, vectors=None, scale=0.1, word_dropout=0.0, dropout=0.0, edrop=None, vscale=1.0):
        super().__init__()
        self.word_dropout, self.dropout = WordDropout(word_dropout), nn.Dropout(dropout)
        self.edrop = nn.Dropout(dropout if edrop is None else edrop)
        self.embedding = init_embedding(V, D, vectors, scale)
        with torch.no_grad(): self.embedding.weight.mul_(vscale)
        self.cell = getattr(nn, cell)(D, H, batch_first=True)
        self.linear = nn.Linear(H, 1)
        for k, part in enumerate(self.cell.weight_hh_l0.split(H)):
            nn.init.orthogonal_(part)
        nn.init.xavier_uniform_(self.cell.weight_ih_l0)
        nn.init.zeros_(self.cell.bias_hh_l0); nn.init.zeros_(self.cell.bias_ih_l0)
        if cell == "LSTM":
            with torch.no_grad(): self.cell.bias_ih_l0[H:2*H] = 1

    def forward(self, words, lengths):
        x = self.edrop(self.embedding(self.word_dropout(words)))
        _, last = self.cell(pack_padded_sequence(x, lengths, batch_first=True))
        last = last[0] if isinstance(last, tuple) else last
        return self.linear(self.dropout(last[0]))[:, 0]


def fit(model, train, dev, epochs, lr, wd, bs, ema=0.998, seed=0, clip=1.0, sched="linear", verbose=True, wd_emb=None):
    emb = [p for n,p in model.named_parameters() if n.startswith("embedding")]
    rest = [p for n,p in model.named_parameters() if not n.startswith("embedding")]
    groups=[{"params":rest,"weight_decay":wd}]
    if emb: groups.append({"params":emb,"weight_decay":wd if wd_emb is None else wd_emb})
    opt = torch.optim.AdamW(groups, lr=lr)
    steps = epochs * math.ceil(len(train)/bs)
    sch = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: max(0.02, 1 - s/steps))
    avg = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema))
    h=[]
    for e in range(epochs):
        results.seed_all(seed, e); t=time.time(); model.train(); tl=0
        for rows in sorted_batches(train.lengths, bs, True):
            w,l,y = train.batch(rows)
            loss = F.binary_cross_entropy_with_logits(model(w,l), y)
            opt.zero_grad(); loss.backward()
            if clip: nn.utils.clip_grad_norm_(model.parameters(), clip)
            opt.step(); sch.step(); avg.update_parameters(model)
            tl += loss.item()*len(y)
        def acc(m):
            m.eval(); r=0; ls=0
            with torch.inference_mode():
                for rows in sorted_batches(dev.lengths, 500):
                    w,l,y=dev.batch(rows); s=m(w,l); r+=((s>0)==(y>0.5)).sum().item(); ls+=F.binary_cross_entropy_with_logits(s,y,reduction="sum").item()
            return r/len(dev), ls/len(dev)
        a,b=acc(model),acc(avg.module)
        h.append((tl/len(train),a,b,time.time()-t))
        if verbose: print(f"  {e+1} train {tl/len(train):.3f} dev {a[0]:.4f} {a[1]:.3f} ema {b[0]:.4f} {b[1]:.3f}  {time.time()-t:.1f}s",flush=True)
    return h
