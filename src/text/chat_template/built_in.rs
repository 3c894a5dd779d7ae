//! Templates built into wgpt.

/// The name and the text of each template. `chatml` is OpenAI's turn format, for models
/// tuned on it. `plain` needs no special tokens. In `plain`, the model's answer begins
/// with the space after the colon. In the next prompt, `trim` removes that space and the
/// template writes it again, so the answer keeps its tokens.
pub(super) const TEMPLATES: [(&str, &str); 2] = [
    (
        "chatml",
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + \
         '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    ),
    (
        "plain",
        "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}\
         {% else %}{{ message['role'] | capitalize + ': ' + message['content'] | trim + '\\n' }}{% endif %}{% endfor %}\
         {% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}",
    ),
];

pub(super) const NAMES: [&str; TEMPLATES.len()] = [TEMPLATES[0].0, TEMPLATES[1].0];
