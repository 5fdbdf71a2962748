//! S3's operations over the map, in `s3s`' words.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use s3s::dto::*;
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};

use crate::Shared;
use crate::state::{Condition, Object, Page, Refusal};

/// Longest body that is taken, bytes.
const MAX_BODY: usize = 1 << 30;

#[derive(Clone, Debug)]
pub(crate) struct Service(pub Arc<Shared>);

impl From<Refusal> for S3Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSuchBucket => s3_error!(NoSuchBucket),
            Refusal::NoSuchKey => s3_error!(NoSuchKey),
            Refusal::NoSuchUpload => s3_error!(NoSuchUpload),
            Refusal::InvalidPart => s3_error!(InvalidPart),
            Refusal::InvalidPartOrder => s3_error!(InvalidPartOrder),
            Refusal::PreconditionFailed => s3_error!(PreconditionFailed),
        }
    }
}

fn text(condition: Option<ETagCondition>) -> Option<String> {
    condition.map(|c| match c {
        ETagCondition::Any => "*".to_owned(),
        ETagCondition::ETag(tag) => tag.into_value(),
    })
}

fn hits(wanted: &Option<String>, etag: &str) -> bool {
    wanted.as_deref().is_some_and(|w| w == "*" || w == etag)
}

fn strong(etag: &str) -> Option<ETag> {
    Some(ETag::Strong(etag.to_owned()))
}

/// Refuses a read as RFC 9110, section 13.2.2 orders the conditions.
fn check_read(
    object: &Object,
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
) -> S3Result<()> {
    let (if_match, if_none_match) = (text(if_match), text(if_none_match));
    if if_match.is_some() && !hits(&if_match, &object.etag) {
        return Err(s3_error!(PreconditionFailed));
    }
    if hits(&if_none_match, &object.etag) {
        return Err(s3_error!(NotModified));
    }
    Ok(())
}

async fn collect(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(mut body) = body else {
        return Ok(Bytes::new());
    };
    let mut bytes = BytesMut::new();
    while let Some(part) = body
        .try_next()
        .await
        .map_err(|_| s3_error!(IncompleteBody))?
    {
        if bytes.len() + part.len() > MAX_BODY {
            return Err(s3_error!(EntityTooLarge));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes.freeze())
}

fn encode(text: String, url: bool) -> String {
    if !url {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => {
                out.push(b as char)
            }
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

#[async_trait::async_trait]
impl S3 for Service {
    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        match self.0.state.create_bucket(&request.input.bucket) {
            true => Ok(S3Response::new(CreateBucketOutput::default())),
            false => Err(s3_error!(BucketAlreadyOwnedByYou)),
        }
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        match self.0.state.has_bucket(&request.input.bucket) {
            true => Ok(S3Response::new(HeadBucketOutput::default())),
            false => Err(s3_error!(NoSuchBucket)),
        }
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        match self.0.state.has_bucket(&request.input.bucket) {
            true => Ok(S3Response::new(GetBucketLocationOutput::default())),
            false => Err(s3_error!(NoSuchBucket)),
        }
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let object = self.0.state.read(&input.bucket, &input.key)?;
        check_read(&object, input.if_match, input.if_none_match)?;
        let size = object.bytes.len() as u64;
        let (bytes, content_range) = match input.range {
            None => (object.bytes.clone(), None),
            Some(range) => {
                let r = range.check(size).map_err(|_| s3_error!(InvalidRange))?;
                let announced = format!("bytes {}-{}/{size}", r.start, r.end - 1);
                // `check` keeps the range inside the object.
                let part = object.bytes.slice(r.start as usize..r.end as usize);
                (part, Some(announced))
            }
        };
        Ok(S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: Some(bytes.len() as i64),
            content_range,
            content_type: object.content_type.and_then(|t| t.parse().ok()),
            e_tag: strong(&object.etag),
            last_modified: Some(object.modified.into()),
            metadata: object.metadata,
            body: Some(s3s::Body::from(bytes).into()),
            ..Default::default()
        }))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let object = self.0.state.read(&input.bucket, &input.key)?;
        check_read(&object, input.if_match, input.if_none_match)?;
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: Some(object.bytes.len() as i64),
            content_type: object.content_type.and_then(|t| t.parse().ok()),
            e_tag: strong(&object.etag),
            last_modified: Some(object.modified.into()),
            metadata: object.metadata,
            ..Default::default()
        }))
    }

    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let bytes = collect(input.body).await?;
        if input
            .content_length
            .is_some_and(|n| n != bytes.len() as i64)
        {
            return Err(s3_error!(IncompleteBody));
        }
        let object = Object {
            content_type: input.content_type.map(|t| t.to_string()),
            metadata: input.metadata,
            ..Object::new(bytes)
        };
        let etag = object.etag.clone();
        let condition = Condition {
            if_match: text(input.if_match),
            if_none_match: text(input.if_none_match),
        };
        self.0
            .state
            .write(&input.bucket, &input.key, object, &condition)?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: strong(&etag),
            ..Default::default()
        }))
    }

    async fn copy_object(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = request.input;
        let CopySource::Bucket { bucket, key, .. } = &input.copy_source else {
            return Err(s3_error!(NotImplemented, "access points"));
        };
        let source = self.0.state.read(bucket, key)?;
        let wanted = text(input.copy_source_if_match);
        let unwanted = text(input.copy_source_if_none_match);
        if (wanted.is_some() && !hits(&wanted, &source.etag)) || hits(&unwanted, &source.etag) {
            return Err(s3_error!(PreconditionFailed));
        }
        // The condition on the target is a header that `s3s` does not know for this operation.
        let header = |name: &str| {
            let value = request.headers.get(name)?.to_str().ok()?;
            Some(value.trim_matches('"').to_owned())
        };
        let condition = Condition {
            if_match: header("if-match"),
            if_none_match: header("if-none-match"),
        };
        let copy = Object {
            modified: std::time::SystemTime::now(),
            ..source
        };
        let result = CopyObjectResult {
            e_tag: strong(&copy.etag),
            last_modified: Some(copy.modified.into()),
            ..Default::default()
        };
        self.0
            .state
            .write(&input.bucket, &input.key, copy, &condition)?;
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(result),
            ..Default::default()
        }))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        let if_match = text(input.if_match);
        let state = &self.0.state;
        state.delete(&input.bucket, &input.key, if_match.as_deref())?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = request.input;
        let mut deleted = Vec::with_capacity(input.delete.objects.len());
        for object in input.delete.objects {
            self.0.state.delete(&input.bucket, &object.key, None)?;
            deleted.push(DeletedObject {
                key: Some(object.key),
                ..Default::default()
            });
        }
        let quiet = input.delete.quiet.unwrap_or(false);
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: (!quiet).then_some(deleted),
            ..Default::default()
        }))
    }

    async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = request.input;
        let url = input.encoding_type.is_some();
        let prefix = input.prefix.clone().unwrap_or_default();
        let delimiter = input.delimiter.clone().unwrap_or_default();
        let max = input.max_keys.unwrap_or(1000).clamp(0, 1000);
        let after = input.marker.clone().unwrap_or_default();
        let state = &self.0.state;
        let listings = &self.0.listings;
        let max_keys = listings.page(max as usize);
        let mut page = state.list(&input.bucket, &prefix, &delimiter, &after, max_keys)?;
        listings.change(&mut page, &prefix, &after, delimiter.is_empty());
        let next = page.next.clone();
        let (contents, common_prefixes) = rows(page, url);
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(encode(prefix, url)),
            marker: input.marker,
            delimiter: input.delimiter,
            encoding_type: input.encoding_type,
            max_keys: Some(max),
            is_truncated: Some(next.is_some()),
            next_marker: next,
            contents: Some(contents),
            common_prefixes: Some(common_prefixes),
            ..Default::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let url = input.encoding_type.is_some();
        let prefix = input.prefix.clone().unwrap_or_default();
        let delimiter = input.delimiter.clone().unwrap_or_default();
        let max = input.max_keys.unwrap_or(1000).clamp(0, 1000);
        // A continuation token is the last entry of the page before.
        let token = input.continuation_token.clone();
        let after = token.or(input.start_after.clone()).unwrap_or_default();
        let state = &self.0.state;
        let listings = &self.0.listings;
        let max_keys = listings.page(max as usize);
        let mut page = state.list(&input.bucket, &prefix, &delimiter, &after, max_keys)?;
        listings.change(&mut page, &prefix, &after, delimiter.is_empty());
        let next = page.next.clone();
        let (contents, common_prefixes) = rows(page, url);
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(encode(prefix, url)),
            delimiter: input.delimiter,
            encoding_type: input.encoding_type,
            start_after: input.start_after,
            continuation_token: input.continuation_token,
            key_count: Some((contents.len() + common_prefixes.len()) as i32),
            max_keys: Some(max),
            is_truncated: Some(next.is_some()),
            next_continuation_token: next,
            contents: Some(contents),
            common_prefixes: Some(common_prefixes),
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        let template = Object {
            content_type: input.content_type.map(|t| t.to_string()),
            metadata: input.metadata,
            ..Object::new(Bytes::new())
        };
        let state = &self.0.state;
        let id = state.begin_upload(&input.bucket, &input.key, template)?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..Default::default()
        }))
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        let part = Object::new(collect(input.body).await?);
        let etag = part.etag.clone();
        self.0
            .state
            .put_part(&input.upload_id, input.part_number, part)?;
        Ok(S3Response::new(UploadPartOutput {
            e_tag: strong(&etag),
            ..Default::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let parts = input
            .multipart_upload
            .and_then(|m| m.parts)
            .unwrap_or_default();
        let listed: Vec<(i32, String)> = parts
            .into_iter()
            .map(|part| {
                let etag = part.e_tag.map(ETag::into_value).unwrap_or_default();
                (part.part_number.unwrap_or(0), etag)
            })
            .collect();
        let condition = Condition {
            if_match: text(input.if_match),
            if_none_match: text(input.if_none_match),
        };
        let state = &self.0.state;
        let etag = state.complete_upload(&input.upload_id, &listed, &condition)?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: strong(&etag),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.0.state.abort_upload(&request.input.upload_id)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}

fn rows(page: Page, url: bool) -> (Vec<s3s::dto::Object>, Vec<CommonPrefix>) {
    let contents = page
        .objects
        .into_iter()
        .map(|(key, object)| s3s::dto::Object {
            key: Some(encode(key, url)),
            size: Some(object.bytes.len() as i64),
            e_tag: strong(&object.etag),
            last_modified: Some(object.modified.into()),
            ..Default::default()
        });
    let prefixes = page.prefixes.into_iter().map(|prefix| CommonPrefix {
        prefix: Some(encode(prefix, url)),
    });
    (contents.collect(), prefixes.collect())
}
