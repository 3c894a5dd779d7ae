//! The tensors of a described model.

use super::{Attention, Decoder, Linear, Qkv, Residual, Up};
use crate::kernels::NormForm;
use crate::model::rope::Pairing;
use crate::model::spec::{
    HeadSources, Heads, LayerPart, Layout, Order, Param, Place, Role, Source, TensorSpec,
};
use crate::tensor::Axis;

impl Decoder {
    /// Returns all tensors of a checkpoint, without the prefix: embeddings, blocks, final
    /// norm, head.
    #[must_use]
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let embd = self.embd();
        let mut all = vec![TensorSpec::matrix(Place::Tokens, self.embedding.tokens, self.vocab(), embd)];
        if let Some(positions) = &self.embedding.positions {
            let mut spec =
                TensorSpec::matrix(Place::Positions, positions.name, Axis::plain(self.n_positions), embd);
            spec.sources[0].skipped = positions.skipped;
            all.push(spec);
        }
        for layer in 0..self.n_layer {
            self.block(&mut all, layer, &self.layer_prefix.replace("{}", &layer.to_string()));
        }
        self.norm(&mut all, Place::FinalNorm, self.head.norm, embd, Pairing::AsIs);
        if !self.head.tied {
            all.push(TensorSpec::matrix(
                Place::Head(Param::Weight),
                self.head_name("weight"),
                self.vocab(),
                embd,
            ));
        }
        if self.head.bias {
            all.push(TensorSpec::vector(
                Place::Head(Param::Bias),
                Role::Bias,
                self.head_name("bias"),
                self.vocab(),
            ));
        }
        all
    }

    /// Returns the name of a tensor of the head.
    pub(in crate::model) fn head_name(&self, part: &str) -> String {
        format!("{}.{part}", self.head.name)
    }

    fn block(&self, all: &mut Vec<TensorSpec>, layer: usize, prefix: &str) {
        let embd = self.embd();
        let place = |part| move |param| Place::Layer(layer, part, param);
        let norm = |all: &mut Vec<TensorSpec>, part, name: &str| {
            self.norm(all, place(part), &format!("{prefix}{name}"), embd, Pairing::AsIs);
        };
        let (before_attention, after_attention, before_mlp, after_mlp) = match self.residual {
            Residual::Sequential { attention, mlp } => (attention, None, Some(mlp), None),
            Residual::Sandwich { attention, mlp } => {
                (attention[0], Some(attention[1]), Some(mlp[0]), Some(mlp[1]))
            }
            Residual::Parallel { attention, mlp } => (attention, None, mlp, None),
        };
        norm(all, LayerPart::AttentionNorm, before_attention);
        self.qkv_tensors(all, place(LayerPart::Qkv), prefix);
        if let Some(names) = self.attention.qk_norm {
            for (part, name) in [LayerPart::QNorm, LayerPart::KNorm].into_iter().zip(names) {
                self.norm(
                    all,
                    place(part),
                    &format!("{prefix}{name}"),
                    Axis::plain(self.attention.head_dim),
                    self.pairing(),
                );
            }
        }
        linear(
            all,
            place(LayerPart::Out),
            prefix,
            &[self.attention.out],
            Order::Axis(embd),
            self.heads(),
            Role::Residual,
        );
        after_attention.iter().for_each(|name| norm(all, LayerPart::AfterAttention, name));
        before_mlp.iter().for_each(|name| norm(all, LayerPart::MlpNorm, name));
        let n_inner = self.mlp.n_inner;
        let (up, order) = match &self.mlp.up {
            Up::Plain(up) => (std::slice::from_ref(up), Order::Axis(self.inner())),
            Up::Gated(both) => (&both[..], Order::Gated { n_inner, one_source: false }),
            Up::GatedFused(both) => (std::slice::from_ref(both), Order::Gated { n_inner, one_source: true }),
        };
        linear(all, place(LayerPart::Up), prefix, up, order, embd, Role::Matrix);
        linear(
            all,
            place(LayerPart::Down),
            prefix,
            &[self.mlp.down],
            Order::Axis(embd),
            self.inner(),
            Role::Residual,
        );
        after_mlp.iter().for_each(|name| norm(all, LayerPart::AfterMlp, name));
    }

    fn qkv_tensors(&self, all: &mut Vec<TensorSpec>, place: impl Fn(Param) -> Place, prefix: &str) {
        let Attention { n_head, n_kv_head, head_dim, .. } = self.attention;
        let (linears, sources) = match &self.attention.qkv {
            Qkv::Separate(three) => (&three[..], HeadSources::Separate),
            Qkv::Fused(one, sources) => (std::slice::from_ref(one), *sources),
        };
        let heads = Heads { n_head, n_kv_head, head_dim, pairing: self.pairing(), sources };
        linear(all, place, prefix, linears, Order::Heads(heads), self.embd(), Role::Matrix);
    }

    /// Adds the vectors of a norm: weights, and the bias of a layer norm.
    fn norm(
        &self,
        all: &mut Vec<TensorSpec>,
        place: impl Fn(Param) -> Place,
        name: &str,
        axis: Axis,
        pairing: Pairing,
    ) {
        let heads =
            Heads { n_head: 1, n_kv_head: 0, head_dim: axis.len(), pairing, sources: HeadSources::Separate };
        let order = if pairing == Pairing::AsIs { Order::Axis(axis) } else { Order::Heads(heads) };
        let source = |part: &str| vec![Source::new(format!("{name}.{part}"), axis.len())];
        let weight = TensorSpec::vectors(place(Param::Weight), Role::Norm, source("weight"), order);
        all.push(TensorSpec { plus_one: self.norms.plus_one, ..weight });
        // Norms of heads are never layer norms.
        if self.norms.kind == NormForm::Layer {
            all.push(TensorSpec::vectors(place(Param::Bias), Role::Bias, source("bias"), order));
        }
    }

    /// Returns whether a checkpoint may contain a tensor that [`Decoder::tensors`] does
    /// not list. Such a tensor is a buffer, for example the causal mask, or a head that
    /// the config ties to the embedding. transformers does not read such a head either.
    #[must_use]
    pub fn ignores(&self, name: &str, shape: &[usize]) -> bool {
        let (prefix, suffix) = self.layer_prefix.split_once("{}").unwrap_or((self.layer_prefix, ""));
        let buffer = name.strip_prefix(prefix).and_then(|rest| rest.split_once(suffix)).is_some_and(
            |(layer, part)| {
                self.ignored.contains(&part) && layer.parse().is_ok_and(|layer: usize| layer < self.n_layer)
            },
        );
        let head = name == self.head_name("weight") && shape == [self.vocab_size, self.n_embd];
        buffer || (self.head.tied && head)
    }
}

/// Adds a matrix and its bias, from one or more tensors.
fn linear(
    all: &mut Vec<TensorSpec>,
    place: impl Fn(Param) -> Place,
    prefix: &str,
    parts: &[Linear],
    rows: Order,
    columns: Axis,
    role: Role,
) {
    let sources = |part: &str| -> Vec<Source> {
        let names = parts.iter().map(|linear| format!("{prefix}{}.{part}", linear.name));
        names.zip(source_rows(&rows, parts.len())).map(|(name, rows)| Source::new(name, rows)).collect()
    };
    let layout = if parts[0].transposed { Layout::Transposed } else { Layout::RowMajor };
    all.push(TensorSpec {
        place: place(Param::Weight),
        role,
        sources: sources("weight"),
        layout,
        rows,
        columns,
        plus_one: false,
    });
    if parts[0].bias {
        all.push(TensorSpec::vectors(place(Param::Bias), Role::Bias, sources("bias"), rows));
    }
}

/// Returns the number of rows of each source of an order.
fn source_rows(order: &Order, n_sources: usize) -> Vec<usize> {
    match order {
        Order::Axis(axis) => vec![axis.len()],
        Order::Gated { n_inner, .. } => vec![2 * n_inner / n_sources; n_sources],
        Order::Heads(heads) if n_sources == 1 => vec![heads.axis().len()],
        Order::Heads(heads) => {
            [heads.n_head, heads.n_kv_head, heads.n_kv_head].map(|n| n * heads.head_dim).to_vec()
        }
    }
}
